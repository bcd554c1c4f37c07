"""Generated files are what the code says, and the generator says so when they are not."""

import json
from pathlib import Path

import pytest

from docs import generate
from docs.generate import drift, main, write


def test_the_committed_files_are_the_generated_ones() -> None:
    """`python -m docs.generate` changes nothing."""
    assert drift() == []


def test_a_missing_and_a_changed_file_are_named(tmp_path: Path) -> None:
    """Drift names each file, and shows the difference."""
    write(tmp_path)
    (tmp_path / "docs/errors.md").unlink()
    page = tmp_path / "docs/metrics.md"
    page.write_text(page.read_text(encoding="utf-8").replace("Jobs delivered", "Jobs received"), encoding="utf-8")
    found = drift(tmp_path)
    assert found[0] == "docs/errors.md is missing"
    assert "+| `heimdall_deliveries_total` | counter |  | Jobs delivered by the broker. |" in found[1]


def test_check_fails_with_a_hint(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code is 1, and what to do is said."""
    monkeypatch.setattr(generate, "drift", lambda: ["docs/errors.md is missing"])
    assert main(["--check"]) == 1
    assert "run `python -m docs.generate`" in capsys.readouterr().err


def test_every_generated_file_says_so() -> None:
    """A reader who wants to edit one learns where to go."""
    for path, text in generate.generated_files():
        note = json.loads(text)["$comment"] if path.endswith(".json") else text.splitlines()[0]
        assert "python -m docs.generate" in note, path
