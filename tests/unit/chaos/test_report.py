"""The report: a row per scenario, one line, a table, and its place in the page."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.chaos.publish import BEGIN, END, NoMarkers, published
from bench.chaos.report import Row, row, summary, table, write
from bench.chaos.world import Check

CHECK = Check("recovery", "3 s", "≤ 10 s", holds=True)
ROW = Row(1, "kills", "few", 100, 0, 0, 0, 3, 2, 0, 1.5, 9.0, (CHECK,))


def changed(**fields: Any) -> Row:
    """The row with some fields changed."""
    return Row(**{**{name: getattr(ROW, name) for name in Row.__dataclass_fields__}, **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"lost": 1},
        {"unexpected": 1},
        {"differing": 1},
        {"left": 1},
        {"failure": "boom"},
        {"checks": (Check("recovery", "30 s", "≤ 10 s", holds=False),)},
    ],
    ids=str,
)
def test_what_is_not_clean(fields: dict[str, Any]) -> None:
    """One lost job, one broken bound or one failure is enough; without any the row is clean."""
    assert ROW.clean
    assert not changed(**fields).clean


def test_a_world_that_was_never_judged_is_not_clean() -> None:
    """A scenario that broke off counts as failed, never as clean."""
    world: Any = SimpleNamespace(verdict=None, checks=[], notes=[])
    assert not row(1, "kills", "few", world, 1.0).clean


def test_the_line() -> None:
    """The last line sums up all scenarios."""
    line = summary([ROW, changed(number=2, lost=4, left=1)])
    assert line == "chaos: scenarios=2 confirmed=200 lost=4 unexpected=0 differing=0 left=1"


def test_the_files(tmp_path: Path) -> None:
    """The JSON has every figure; the table is made of it and shows broken bounds."""
    rows = [ROW, changed(number=2, checks=(Check("recovery", "30 s", "≤ 10 s", holds=False),))]
    write(tmp_path, rows, "make chaos")
    document = json.loads((tmp_path / "report.json").read_text())
    assert [found["clean"] for found in document["scenarios"]] == [True, False]
    text = (tmp_path / "report.md").read_text()
    assert table(document["scenarios"]) in text
    assert "**broken** recovery: 30 s (≤ 10 s)" in text
    assert "`make chaos`" in text


def test_its_place_in_the_page() -> None:
    """What is between the markers is replaced, all else stays; without markers it is refused."""
    document = {"command": "make chaos", "summary": summary([ROW]), "scenarios": []}
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    once = published(page, document)
    assert "old" not in once
    assert "make chaos" in once
    assert once.startswith("before\n")
    assert once.endswith("after\n")
    assert published(once, document) == once
    with pytest.raises(NoMarkers, match="no lines"):
        published("nothing here", document)
