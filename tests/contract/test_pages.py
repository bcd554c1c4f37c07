"""Written pages agree with the code they speak of: log events, settings, reasons, links."""

import re
from pathlib import Path
from typing import get_args

import pytest

from schemas.control import COMMAND
from tests.contract.examples import PAGES, ROOT
from worker.amqp.flow import Reason
from worker.config import ENV_PREFIX, Settings

OPERATIONS = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
OWN_PAGES = (*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md")
LOG_EVENT = re.compile(r'log\.(debug|info|warning|error|exception|critical)\(\s*"([a-z_]+\.[a-z_]+)"')


def test_every_log_event_is_explained_and_no_other() -> None:
    """Operators find each name with its level, and none that is gone."""
    found: dict[str, set[str]] = {}
    for file in (ROOT / "worker").rglob("*.py"):
        for level, event in LOG_EVENT.findall(file.read_text(encoding="utf-8")):
            found.setdefault(event, set()).add("error" if level == "exception" else level)
    section = OPERATIONS.split("## Log events")[1].split("\n## ")[0]
    rows = re.findall(r"^\| ((?:`[a-z_.]+`(?:, )?)+) \| ([a-z, ]+) \|", section, re.MULTILINE)
    explained: dict[str, set[str]] = {}
    for events, levels in rows:
        names, given = re.findall(r"`([a-z_.]+)`", events), levels.split(", ")
        for place, name in enumerate(names):
            explained[name] = set(given) if len(names) == 1 else {given[min(place, len(given) - 1)]}
    assert explained == found


def test_every_reason_and_command_is_explained() -> None:
    """Why no jobs are taken, and what may be commanded."""
    assert all(f"| `{reason}` |" in OPERATIONS for reason in get_args(Reason))
    wire = (ROOT / "docs/wire.md").read_text(encoding="utf-8")
    commands = re.findall(r'"const": "([a-z]+)"', COMMAND.json_schema().__str__().replace("'", '"'))
    assert commands
    assert all(f"| `{command}` |" in wire for command in commands)


@pytest.mark.parametrize("page", OWN_PAGES, ids=lambda page: page.name)
def test_settings_that_are_named_exist(page: Path) -> None:
    """No page names a variable that nobody reads."""
    named = set(re.findall(rf"{ENV_PREFIX}[A-Z_]+[A-Z]", page.read_text(encoding="utf-8")))
    assert named <= {ENV_PREFIX + name.upper() for name in Settings.model_fields}


@pytest.mark.parametrize("page", OWN_PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Relative links name a file, and a heading where they name one."""
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text(encoding="utf-8")):
        path, _, heading = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        if heading:
            assert heading in anchors(file), target


def anchors(file: Path) -> set[str]:
    """Headings of a page as they are linked to."""
    headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
