"""What every test may use."""

import gc
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy machine makes inputs slowly; that says nothing of the code.
settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")

# What a script starts in the background ignores SIGINT, and so would every command that a test starts there.
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["tests.support.stack", "tests.support.worlds"]

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture
def recordings() -> Path:
    """The folder of real recordings, which are not part of the project."""
    folder = SHARED / "iq"
    if not folder.is_dir():
        pytest.skip(f"the real recordings are not here: {folder} does not exist")
    return folder


@pytest.fixture
def no_garbage_collector() -> Iterator[None]:
    """What is in a circle stays: whoever is gone by the end of a test was in none."""
    gc.disable()
    yield
    gc.enable()
