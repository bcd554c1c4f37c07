import time
from itertools import count, islice
from pathlib import Path
from random import Random

import pytest
from structlog.testing import capture_logs

from bench.fuzz import __main__ as fuzz
from bench.fuzz import limits, structured
from bench.fuzz.guided import hunt_all
from bench.fuzz.limits import Failure, attempt
from bench.fuzz.structured import Tally, run_inputs, run_structured
from bench.fuzz.target import TAKEN, Target
from tests.fuzz.memory import MemorySession
from tests.fuzz.test_settling import Settling


def target(run, name="broken"):
    """A reader that is given bytes of its own length."""
    return Target(name, lambda _: b"x", lambda rng: rng.randbytes(8), run)


def crashes(data):
    """Raise what was never promised."""
    raise KeyError(data)


def burns(data):
    """Take processor time for ever, and catch whatever it can."""
    until = time.process_time() + 20
    while time.process_time() < until:
        try:
            sum(range(10_000))
        except Exception:
            continue
    return TAKEN


def swells(data):
    """Take far more memory than the input is worth."""
    assert bytearray(64 * 1024 * 1024)
    return TAKEN


@pytest.mark.parametrize(("run", "kind"), [(crashes, "crash"), (burns, "hang"), (swells, "memory")])
def test_a_broken_reader_is_found(run, kind, monkeypatch):
    """What raises, never ends or swells is a failure of that kind, with the input that did it."""
    monkeypatch.setattr(limits, "CPU_S", 0.05)
    failure = attempt(target(run), b"12345678", measure=kind == "memory")
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.target, failure.data) == (kind, "broken", b"12345678")
    assert failure.said


def test_a_crash_is_reported_and_kept(monkeypatch, capsys, tmp_path):
    """The last line counts it, the exit code is 1, and its input becomes a seed."""
    monkeypatch.chdir(tmp_path)
    tally = Tally()
    tally.add(Failure("crash", "json", b"{", "KeyError: x (a.py:1)"))
    tally.add(TAKEN)
    assert fuzz._report({"json": tally}, {"json": 0}) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "fuzz: targets=1 inputs=2 crashes=1 hangs=0"
    [kept] = (tmp_path / "tests/fuzz/corpus/json").iterdir()
    assert kept.read_bytes() == b"{"


def test_numbered_inputs_are_the_same_everywhere():
    """An input is found again by its number."""
    for name in ("iq", "sigmf", "amqp"):
        assert structured.input_of(name, 7) == structured.input_of(name, 7)
        assert structured.input_of(name, 7) != structured.input_of(name, 8)


def test_processes_share_the_inputs():
    """Every input is run once, whichever process has it."""
    tallies = run_structured(["iq", "control"], 301, 2)
    assert [tally.inputs for tally in tallies.values()] == [151, 150]
    assert all(tally.failures == [] for tally in tallies.values())
    assert tallies["iq"].verdicts == run_inputs("iq", islice(count(), 151)).verdicts


def test_coverage_leads_to_inputs(tmp_path, monkeypatch):
    """Inputs led by coverage are made on a target in a process of its own, which says how many."""
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    monkeypatch.chdir(tmp_path)
    [found] = hunt_all(["iq"], seconds=1, at_once=1, seed=1).values()
    assert found.failure is None
    assert found.inputs > 100


class CarelessSession(MemorySession):
    """Acknowledges up to the highest finished tag, whatever lies below it."""

    def ack(self, messages):
        """One frame is enough, it thinks."""
        tags = {message.delivery_tag for message in messages}
        if self.ledger.finish(tags) and not self.lost.is_set():
            self.broker.on_ack(self, max(tags), multiple=True)


class Careless(Settling):
    """The same machine with a session that acknowledges too much."""

    def __init__(self):
        super().__init__()
        self.broker.session.__class__ = CarelessSession


@pytest.mark.parametrize("machine", [Settling, Careless])
def test_a_careless_acknowledgement_is_found(machine):
    """The machine of states can fail: a session that acknowledges what is not finished is found out."""
    with capture_logs():
        line = machine()
        line.arrive(["sound", "cut", "sound", "expired"])
        line.deliver([], 1)
        line.loop.run_until_complete(line.batcher.drain())
        line.loop.run_until_complete(line._close())
    line.loop.close()
    if machine is Settling:
        line.nothing_is_settled_twice()
    else:
        with pytest.raises(AssertionError):
            line.nothing_is_settled_twice()


def test_generators_draw_from_their_argument_alone():
    """Two generators from the same seed make the same inputs: nothing else is random."""
    assert [structured.TARGETS["json"].make(Random(s)) for s in range(50)] == [
        structured.TARGETS["json"].make(Random(s)) for s in range(50)
    ]
