"""What the load writes down is what the oracle reads."""

from dataclasses import replace
from pathlib import Path

from bench.chaos.journal import Journal, answered, confirmed, read
from bench.chaos.oracle import Answer

ANSWER = Answer("0123", "expired", fits=False)


def test_round_trip(tmp_path: Path) -> None:
    """Everything noted is read again, over several journals, with times in order."""
    one, two = Journal(tmp_path / "one"), Journal(tmp_path / "two")
    one.note("published", "a-1", "1.0")
    one.note("confirmed", "a-1", "2.0")
    one.note("refused", "a-1")
    two.reply("a-1", 9.0, ANSWER, again=False)
    one.reply("a-1", 3.0, ANSWER, again=False)
    one.note("events", "a-1", "3.5", "localization.failed")
    for journal in (one, two):
        journal.flush()
    record = read(tmp_path / "one", tmp_path / "two")
    assert (record.published, record.confirmed, record.refused) == ({"a-1": 1.0}, {"a-1": 2.0}, 1)
    assert record.replies == {"a-1": [ANSWER, ANSWER]}
    assert record.answered_at == [3.0, 9.0]
    assert record.events == {"a-1": frozenset({"localization.failed"})}


def test_a_reply_that_the_broker_delivers_twice(tmp_path: Path) -> None:
    """A reply that the recorder was given twice is one reply; it counts where the first never came."""
    journal = Journal(tmp_path)
    journal.reply("a-1", 1.0, ANSWER, again=False)
    journal.reply("a-1", 2.0, ANSWER, again=True)
    journal.reply("a-2", 3.0, ANSWER, again=True)
    journal.flush()
    assert read(tmp_path).replies == {"a-1": [ANSWER], "a-2": [ANSWER]}
    assert answered(tmp_path) == {"a-1", "a-2"}


def test_a_different_reply_is_kept_also_where_it_was_delivered_before(tmp_path: Path) -> None:
    """The first delivery of a second reply may have been lost with the recorder's connection."""
    other = replace(ANSWER, digest="other")
    journal = Journal(tmp_path)
    journal.reply("a-1", 1.0, ANSWER, again=False)
    journal.reply("a-1", 2.0, other, again=True)
    journal.flush()
    assert read(tmp_path).replies == {"a-1": [ANSWER, other]}


def test_a_line_that_is_not_written_whole(tmp_path: Path) -> None:
    """A last line without its end is not read yet."""
    (tmp_path / "confirmed").write_text("a-1 2.0\na-2 3.")
    assert confirmed(tmp_path) == ["a-1"]
