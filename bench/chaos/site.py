"""The servers, the registry and the bodies that scenarios share."""

import base64
import json
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.chaos.jobs import LONGITUDE_DEG, Bodies
from deploy.local import Broker, RedisServer, Stack
from tests.support.models import expected_position, metadata, tone, write_model
from worker.serving.registry import Registry

NAME: Final = "heimdall"
_SAMPLES: Final = 600
_AMPLITUDES: Final = tuple(0.9 / 2**step for step in range(6))
_LOUD: Final = 1e3


@dataclass(frozen=True)
class Site:
    """What scenarios share, one after the other.

    Attributes:
        registry: sqlite file of an MLflow registry whose version 1 serves.
        bodies: of the jobs, as JSON.
        directory: private, for everything that is written.
    """

    broker: Broker
    store: RedisServer
    registry: Path
    bodies: Path
    directory: Path


@contextmanager
def site() -> Iterator[Site]:
    """Servers, a registered model and bodies; nothing is left when the block ends."""
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="heimdall-chaos-") as name, Stack.running() as stack:
        directory = Path(name)
        registry = Registry(f"sqlite:///{directory}/mlflow.db", NAME)
        registry.register(write_model(directory / "model.onnx"))
        path = make_bodies().write(directory / "bodies.json")
        yield Site(stack.broker, stack.store, directory / "mlflow.db", path, directory)


def make_bodies() -> Bodies:
    """Tones at levels 6 dB apart, with the shifts that the tiny model answers."""
    bases = [tone(number, n=_SAMPLES, amplitude=amplitude) for number, amplitude in enumerate(_AMPLITUDES)]
    shifts = [expected_position(base, "cf32_le", 1)[1] - LONGITUDE_DEG for base in bases]
    loud = tone(1, n=_SAMPLES, amplitude=_LOUD)
    text = [base64.b64encode(body).decode() for body in (*bases, loud)]
    return Bodies(json.dumps(metadata()), tuple(text[:-1]), tuple(shifts), text[-1])
