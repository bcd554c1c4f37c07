"""All subjects of one workload against each other: in every repeat each has its turn, so that noise meets them all."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

from bench.drain import Drain, MeasurementFailed, drain, fitting_count
from bench.equal import check_outcomes, require_acknowledged
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
        count: of jobs in each of its drains.
        lone_ms: a median for each turn in which every lone job was answered; that of another would flatter.
        reason: why it failed.
    """

    subject: Subject
    count: int = 0
    drains: list[Drain] = field(default_factory=list)
    lone_ms: list[float] = field(default_factory=list)
    memory: int = 0
    reason: str = ""

    def document(self) -> Document:
        """For the report."""
        about: Document = {"kind": self.subject.kind, "settings": dict(self.subject.settings)}
        if self.reason:
            about["failed"] = self.reason
        if not self.drains:
            return about
        return about | {
            "jobs_per_drain": self.count,
            "drain": spreads(self.drains, _DRAIN),
            "idle_ms": spread(self.lone_ms) if self.lone_ms else None,
            "idle_unanswered": len(self.drains) - len(self.lone_ms),
            "memory_mib": self.memory / 2**20,
        }


def contest(
    place: Place, traffic: Traffic, workload: Workload, subjects: Sequence[Subject], options: Options, say: Say
) -> Document:
    """Measure throughput, processor time and idle latency of all subjects, and the floors, in turns.

    Nobody but the one whose turn it is runs: what others do while they wait takes time and caches. A subject that fails
    is reported with its reason and with what it showed before; the others go on.
    """
    entries = [Entry(subject) for subject in subjects]
    floors: list[Floors] = []
    for repeat in range(options.repeats):
        floors.append(_floors(place, workload, options.floor_s))
        for entry in entries:
            if not entry.reason:
                _turn(entry, Conditions(place, workload, queue_of(entry.subject)), traffic, options, say, repeat)
    return {
        "subjects": {entry.subject.name: entry.document() for entry in entries},
        "floors": floor_document(floors),
    }


def queue_of(subject: Subject, suffix: str = "") -> str:
    """The queue that a subject consumes from."""
    return f"heimdall.bench-{subject.name}{suffix}"


def _turn(entry: Entry, conditions: Conditions, traffic: Traffic, options: Options, say: Say, repeat: int) -> None:
    try:
        with running(entry.subject, conditions) as it:
            one, lone = _measure(entry, it, traffic, options)
        if lone is not None:  # Else the one that was left unanswered lies there.
            require_acknowledged(conditions)
    except FAILURES as error:
        entry.reason = str(error) or repr(error)
        say(f"{entry.subject.name} FAILED: {entry.reason}")
        return
    entry.drains.append(one)
    if lone is not None:
        entry.lone_ms.append(lone)
    latency = "not answered" if lone is None else f"{lone:7.2f} ms"
    say(
        f"{conditions.workload.name:8} {repeat + 1}/{options.repeats}  {entry.subject.name:16} "
        f"{one.jobs_per_s:8.0f} jobs/s {one.cpu_us:8.0f} µs CPU per job  lone {latency}"
    )


def _measure(entry: Entry, it: Running, traffic: Traffic, options: Options) -> tuple[Drain, float | None]:
    """A turn: a drain, and the latency of a lone job, ms, or None where one was not answered."""
    if entry.subject.kind != "floor":
        check_outcomes(it)
    count = fitting_count(it, traffic, options.drain_s)  # Every time: it warms up what has just been started.
    entry.count = entry.count or count
    one = drain(it, traffic, entry.count)
    latencies = traffic.lone(it.address, options.lone_jobs)
    entry.memory = max(entry.memory, memory_bytes(it.pids))
    return one, 1000 * median(latencies) if len(latencies) == options.lone_jobs else None


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
