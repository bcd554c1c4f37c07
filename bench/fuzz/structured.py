"""Structured inputs by the number of each: number n of a target is the same input on every machine.

The inputs are shared among processes. A process that neither ends its input nor its time limit (it sits in compiled
code), or that dies, is ended and replaced behind the input it was at, and the input is a finding.
"""

import logging
import multiprocessing
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from random import Random
from typing import Any, Final

import structlog

from bench.fuzz.limits import Failure, attempt, confine
from bench.fuzz.targets import TARGETS

STALLED_S: Final = 60.0
MEASURED_EVERY: Final = 250
"""Of so many inputs one is run with its memory traced."""
CHUNK: Final = 2000
_MAX_FINDINGS: Final = 20
_SPAWN: Final = multiprocessing.get_context("spawn")


@dataclass
class Tally:
    """What came of the inputs of one target."""

    verdicts: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)

    @property
    def inputs(self) -> int:
        """How many were run."""
        return self.verdicts.total()

    def add(self, outcome: str | Failure) -> None:
        """Count one; the first failures are kept with their inputs."""
        if isinstance(outcome, str):
            self.verdicts[outcome] += 1
            return
        self.verdicts[outcome.kind] += 1
        if len(self.failures) < _MAX_FINDINGS:
            self.failures.append(outcome)

    def merge(self, other: "Tally") -> None:
        """Add another tally of the same target."""
        self.verdicts += other.verdicts
        self.failures += other.failures


def input_of(target: str, number: int) -> bytes:
    """Structured input number `number` of a target."""
    return TARGETS[target].make(Random(f"{target} {number}"))  # noqa: S311 - repeatable, nothing secret


def run_inputs(target: str, numbers: Iterator[int]) -> Tally:
    """Run inputs in this process."""
    tally = Tally()
    for number in numbers:
        measure = number % MEASURED_EVERY == 0
        tally.add(attempt(TARGETS[target], input_of(target, number), measure=measure))
    return tally


def run_structured(names: list[str], inputs: int, processes: int) -> dict[str, Tally]:
    """Run `inputs` inputs in all, shared evenly among the targets, in `processes` processes."""
    each, rest = divmod(inputs, len(names))
    spans = [
        (name, first, min(first + CHUNK, count))
        for index, name in enumerate(names)
        for count in [each + (index < rest)]
        for first in range(0, count, CHUNK)
    ]
    tallies = {name: Tally() for name in names}
    lanes = [_Lane(spans[lane::processes]) for lane in range(processes)]
    while any(lane.busy for lane in lanes):
        for lane in lanes:
            lane.collect(tallies)
    return tallies


class _Lane:
    """A process, the inputs that are still its own, and the number of the one it is at."""

    def __init__(self, spans: list[tuple[str, int, int]]) -> None:
        self._spans = spans
        self._at = _SPAWN.Value("q", 0, lock=False)
        self._seen, self._since = -1, time.monotonic()
        self._process: BaseProcess | None = None
        self._results: Connection | None = None
        self._start()

    @property
    def busy(self) -> bool:
        return bool(self._spans)

    def collect(self, tallies: dict[str, Tally]) -> None:
        """Take one result if there is one, or find that none will come."""
        if not self._spans or self._results is None or self._process is None:
            return
        try:
            if self._results.poll(0.2):
                tallies[self._spans[0][0]].merge(self._results.recv())
                del self._spans[0]
                return
        except EOFError:
            self._give_up(tallies, f"the process died with {self._process.exitcode}", "crash")
            return
        if self._at.value != self._seen:
            self._seen, self._since = self._at.value, time.monotonic()
        elif time.monotonic() - self._since > STALLED_S:
            self._give_up(tallies, f"no progress for {STALLED_S:g} s", "hang")

    def _give_up(self, tallies: dict[str, Tally], said: str, kind: Any) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.join()
        name, first, end = self._spans[0]
        number = max(first, self._at.value)
        tallies[name].merge(run_inputs(name, iter(range(first, number))))
        tallies[name].add(Failure(kind, name, input_of(name, number), said))
        self._spans[0] = (name, number + 1, end)
        self._start()

    def _start(self) -> None:
        if not self._spans:
            return
        self._results, far = _SPAWN.Pipe(duplex=False)
        self._process = _SPAWN.Process(target=_work, args=(self._spans, self._at, far), daemon=True)
        self._process.start()
        far.close()
        self._since = time.monotonic()


def _work(spans: list[tuple[str, int, int]], at: Any, results: Connection) -> None:
    quiet()
    confine()
    for name, first, end in spans:
        results.send(run_inputs(name, _counted(first, end, at)))


def _counted(first: int, end: int, at: Any) -> Iterator[int]:
    for number in range(first, end):
        at.value = number
        yield number


def quiet() -> None:
    """Let nothing of what is fuzzed write a line for each input."""
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
