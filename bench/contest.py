"""All subjects of one workload against each other: in every repeat each has its turn, so that noise meets them all."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

from bench.drain import Drain, MeasurementFailed, drain, fitting_count
from bench.equal import check_outcomes
from bench.figures import Document, spread, spreads
from bench.floors import Floors
from bench.options import Options
from bench.place import Place
from bench.processes import memory_bytes
from bench.subjects import Conditions, Running, Subject, running
from bench.traffic import Traffic
from bench.workloads import Workload
from deploy.local import LocalStackError

FAILURES: Final = (MeasurementFailed, LocalStackError, RuntimeError, OSError)
_COUNTS: Final = ("batch_size", "result_bytes", "stored_bytes")
_DRAIN: Final = ("jobs_per_s", "cpu_us", "broker_cpu_us", "store_cpu_us")
Say = Callable[[str], None]


@dataclass
class Entry:
    """A subject of the contest and what it showed.

    Attributes:
        it: at work, or None before and after.
        exits: end it.
        count: of jobs in each of its drains.
        reason: why it failed.
    """

    subject: Subject
    it: Running | None = None
    exits: ExitStack = field(default_factory=ExitStack)
    count: int = 0
    drains: list[Drain] = field(default_factory=list)
    lone_ms: list[float] = field(default_factory=list)
    memory: int = 0
    reason: str = ""

    def document(self) -> Document:
        """For the report."""
        about: Document = {"kind": self.subject.kind, "settings": dict(self.subject.settings)}
        if self.reason:
            return about | {"failed": self.reason}
        return about | {
            "jobs_per_drain": self.count,
            "drain": spreads(self.drains, _DRAIN),
            "idle_ms": spread(self.lone_ms),
            "memory_mib": self.memory / 2**20,
        }


def contest(
    place: Place, traffic: Traffic, workload: Workload, subjects: Sequence[Subject], options: Options, say: Say
) -> Document:
    """Measure throughput, processor time and idle latency of all subjects, and the floors, interleaved.

    A subject that fails is reported with its reason; the others go on.
    """
    entries = [Entry(subject) for subject in subjects]
    floors: list[Floors] = []
    with ExitStack() as exits:
        for entry in entries:
            say(f"{workload.name:8} starting {entry.subject.name} …")
            exits.push(entry.exits)
            _attempt(entry, partial(_enter, entry, place, traffic, workload, options), say)
        for repeat in range(options.repeats):
            floors.append(_floors(place, workload, options.floor_s))
            for entry in entries:
                _attempt(entry, partial(_turn, entry, traffic, options, say, repeat), say)
    return {
        "subjects": {entry.subject.name: entry.document() for entry in entries},
        "floors": floor_document(floors),
    }


def queue_of(subject: Subject, suffix: str = "") -> str:
    """The queue that a subject consumes from."""
    return f"heimdall.bench-{subject.name}{suffix}"


def _enter(entry: Entry, place: Place, traffic: Traffic, workload: Workload, options: Options) -> None:
    conditions = Conditions(place, workload, queue_of(entry.subject))
    entry.it = entry.exits.enter_context(running(entry.subject, conditions))
    if entry.subject.kind != "floor":
        check_outcomes(entry.it)
    entry.count = fitting_count(entry.it, traffic, options.drain_s)


def _turn(entry: Entry, traffic: Traffic, options: Options, say: Say, repeat: int) -> None:
    assert entry.it is not None
    workload = entry.it.conditions.workload.name
    one = drain(entry.it, traffic, entry.count)
    entry.drains.append(one)
    entry.lone_ms.append(1000 * median(traffic.lone(entry.it.address, options.lone_jobs)))
    entry.memory = max(entry.memory, memory_bytes(entry.it.pids))
    say(
        f"{workload:8} {repeat + 1}/{options.repeats}  {entry.subject.name:16} {one.jobs_per_s:8.0f} jobs/s "
        f"{one.cpu_us:8.0f} µs CPU per job  lone {entry.lone_ms[-1]:7.2f} ms"
    )


def _attempt(entry: Entry, step: Callable[[], None], say: Say) -> None:
    if entry.reason:
        return
    try:
        step()
    except FAILURES as error:
        entry.exits.close()  # It must not take time from the others.
        entry.reason = str(error) or repr(error)
        say(f"{entry.subject.name} FAILED: {entry.reason}")


def _floors(place: Place, workload: Workload, seconds: float) -> Floors:
    argv = [sys.executable, "-m", "bench.floors", workload.name, str(place.model(workload)), place.stack.store.url]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([*argv, str(seconds)], env=environment, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise LocalStackError(f"the floors of {workload.name} could not be measured: {done.stderr[-2000:]}")
    return Floors(**json.loads(done.stdout))


def floor_document(floors: Sequence[Floors]) -> Document:
    """For the report."""
    names = [name for name in asdict(floors[0]) if name not in _COUNTS]
    return {
        **{name: median(getattr(floor, name) for floor in floors) for name in _COUNTS},
        **spreads(floors, [*names, "compute_us"]),
    }


def reply_file(directory: Path, size: int) -> Path:
    """A reply as long as a result, for the AMQP floor."""
    path = directory / "reply.json"
    path.write_text(json.dumps({"position": None, "filler": ""}).replace('""', f'"{"x" * max(0, size - 34)}"'))
    return path
