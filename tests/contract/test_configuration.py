"""docs/configuration.md: every setting, no password, nothing of the machine it was made on."""

import os
import socket

from tests.contract.examples import ROOT
from worker.config import ENV_PREFIX, Settings

PAGE = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")


def test_every_setting_has_a_row_with_a_meaning() -> None:
    """By the name of its variable."""
    for name, field in Settings.model_fields.items():
        assert f"| `{ENV_PREFIX}{name.upper()}` |" in PAGE
        assert field.description


def test_no_password_and_no_host_is_shown() -> None:
    """Defaults that hold a password are masked; the instance is described."""
    assert "guest:guest" not in PAGE
    assert "amqp://guest:***@127.0.0.1/" in PAGE
    assert socket.gethostname() not in PAGE
    assert f"-{os.getpid()}" not in PAGE
