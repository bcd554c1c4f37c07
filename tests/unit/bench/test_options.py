"""What the command measures, by what it is asked."""

import pytest

from bench.__main__ import _options, _parser
from bench.options import FULL, QUICK, Options


def asked(*words: str) -> Options:
    """The options of a command line."""
    return _options(_parser().parse_args(words))


def test_full_and_quick() -> None:
    """Without words everything; the quick form is shorter and has no peers."""
    assert asked() == FULL
    assert asked("--quick") == QUICK
    assert QUICK.drain_s < FULL.drain_s
    assert FULL.peers
    assert not QUICK.peers


def test_parts_of_it() -> None:
    """Workloads, subjects, parts and repeats can be chosen; the rest stays."""
    options = asked("--workloads", "tiny,heavy", "--subjects", "heimdall", "--parts", "drain", "--repeats", "7")
    assert (options.workloads, options.subjects, options.parts, options.repeats) == (
        ("tiny", "heavy"),
        ("heimdall",),
        ("drain",),
        7,
    )
    assert options.drain_s == FULL.drain_s


def test_peers_in_either_form() -> None:
    """With or without, whatever the form."""
    assert asked("--quick", "--with-peers").peers
    assert not asked("--without-peers").peers


@pytest.mark.parametrize("words", [["--workloads", "huge"], ["--parts", "everything"], ["--workloads", ","]])
def test_unknown_names_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The message says what there is."""
    with pytest.raises(SystemExit):
        asked(*words)
    assert "known are" in capsys.readouterr().err
