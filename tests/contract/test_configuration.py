"""docs/configuration.md: every setting, no password, nothing of the machine it was made on."""

import os
import re
import socket
from typing import Any

import pytest
from pydantic import ValidationError

from tests.contract.examples import ROOT
from worker.config import ENV_PREFIX, Settings

PAGE = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")


def test_every_setting_has_a_row_with_a_meaning() -> None:
    """By the name of its variable."""
    for name, field in Settings.model_fields.items():
        assert f"| `{ENV_PREFIX}{name.upper()}` |" in PAGE
        assert field.description


CLAIMS = {"claim_sources": "file:///data", "memory_budget_bytes": 2**31}


@pytest.mark.parametrize(
    "changes",
    [
        {"prefetch_count": 127},
        {"memory_budget_bytes": 2**29},
        CLAIMS | {"memory_budget_bytes": 2**30},
        CLAIMS | {"claim_max_bytes": 2**27},
        CLAIMS | {"claim_timeout_s": 60},
    ],
)
def test_every_check_of_several_settings_is_described(changes: dict[str, Any]) -> None:
    """What a refused start says names variables, each of which the page names before its table."""
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate(changes)
    (problem,) = caught.value.errors()
    named = set(re.findall(rf"{ENV_PREFIX}[A-Z_]+", problem["msg"]))
    assert len(named) > 1
    assert {f"`{name}`" for name in named} <= set(re.findall(r"`[A-Z_]+`", PAGE.split("| variable |")[0]))


def test_the_memory_rule_is_the_one_that_is_checked() -> None:
    """To the byte, without datasets to fetch and with them."""
    assert "(`HEIMDALL_PREFETCH_COUNT` + 4 x `HEIMDALL_MAX_BATCH_SIZE`) x `HEIMDALL_MAX_BODY_BYTES`" in PAGE
    assert "5 x `HEIMDALL_CLAIM_MEMORY_BYTES`" in PAGE
    counts = {"prefetch_count": 40, "max_batch_size": 10, "max_body_bytes": 2**20, "claim_memory_bytes": 2**26}
    for claims, needed in (({}, 80 * 2**20), ({"claim_sources": "file:///data"}, 80 * 2**20 + 5 * 2**26)):
        Settings.model_validate(counts | claims | {"memory_budget_bytes": needed})
        with pytest.raises(ValidationError):
            Settings.model_validate(counts | claims | {"memory_budget_bytes": needed - 1})


def test_no_password_and_no_host_is_shown() -> None:
    """Defaults that hold a password are masked; the instance is described."""
    assert "guest:guest" not in PAGE
    assert "amqp://guest:***@127.0.0.1/" in PAGE
    assert socket.gethostname() not in PAGE
    assert f"-{os.getpid()}" not in PAGE
