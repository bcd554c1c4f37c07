"""What was confirmed outlives the process that published it."""

from pathlib import Path

import pytest

from client import CaptureError, HeimdallError
from client.journal import Journal


def test_a_restart_knows_what_was_confirmed(tmp_path: Path) -> None:
    """Windows and the run's name, from which job ids are made, are those of before."""
    path = tmp_path / "journal"
    with Journal(path) as first:
        first.add("abc", 0)
        first.add("abc", 2)
    with Journal(path) as second:
        second.add("abc", 1)
    third = Journal(path)
    assert first.run == second.run == third.run
    assert [third.holds("abc", index) for index in range(4)] == [True, True, True, False]
    assert not third.holds("def", 0)


def test_what_is_confirmed_is_on_the_disk_at_once(tmp_path: Path) -> None:
    """A process that is killed after a confirm has it in the file."""
    with Journal(tmp_path / "journal") as journal:
        journal.add("abc", 7)
        assert Journal(tmp_path / "journal").holds("abc", 7)


@pytest.mark.parametrize("lost", [1, 2, 3, 5])
def test_a_line_that_was_cut_short_says_nothing(tmp_path: Path, lost: int) -> None:
    """Half a line at the end is no window, not even another one, and does not spoil the next."""
    path = tmp_path / "journal"
    with Journal(path) as journal:
        journal.add("abc", 12)
    path.write_text(path.read_text()[:-lost])
    with Journal(path) as again:
        again.add("abc", 3)
    last = Journal(path)
    assert [index for index in range(20) if last.holds("abc", index)] == [3]


def test_a_disk_that_is_full_ends_the_run_with_its_name() -> None:
    """What is confirmed and cannot be noted would be published again."""
    with pytest.raises(HeimdallError, match="--journal /dev/full: No space left"), Journal(Path("/dev/full")):
        pass


@pytest.mark.parametrize("text", ["a song\n", "{}\n", '{"format": "other", "run": "x"}\n', "[]\n"])
def test_another_file_is_left_alone(tmp_path: Path, text: str) -> None:
    """A file that is no journal is refused, not overwritten."""
    path = tmp_path / "journal"
    path.write_text(text)
    with pytest.raises(CaptureError, match="another kind of file"):
        Journal(path)
    assert path.read_text() == text


def test_without_a_path_it_is_for_this_run_only() -> None:
    """Two runs without a journal make different job ids."""
    with Journal(None) as one, Journal(None) as other:
        one.add("abc", 0)
        assert one.holds("abc", 0)
        assert one.run != other.run
