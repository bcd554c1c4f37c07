"""Steady load for as long as there is time: memory, tasks and the event loop stay as they are."""

import time
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from bench.chaos import injection, journal
from bench.chaos.scenarios.broker_faults import MIB, check_flat, check_no_dead_task
from bench.chaos.workers import Worker
from bench.chaos.world import World

SHARE: Final = 0.7
MAX_LAG_S: Final = 0.05
MAX_SLOPE_MIB_PER_MIN: Final = 1.0
_SETTLED: Final = 0.2
"""Of the time, before the slope is measured: allocators fill their arenas."""
_UNBOUNDED: Final = 100_000.0
_SAMPLE_S: Final = 1.0


@dataclass
class Samples:
    """Of one worker, one a second.

    Attributes:
        at_s: since the beginning.
        rss_mib: resident memory.
    """

    at_s: list[float] = field(default_factory=list)
    rss_mib: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)

    def slope_mib_per_min(self) -> float:
        """Of a line through the memory after it has settled."""
        start = int(len(self.at_s) * _SETTLED)
        return float(np.polyfit(self.at_s[start:], self.rss_mib[start:], 1)[0] * 60.0)


def soak(world: World) -> None:
    """21: 70 % of what this machine takes, load and servers included."""
    tasks = world.directory / "tasks"
    (worker,) = world.fleet(1, env={injection.TASKS: str(tasks)})
    minutes = world.scale.pick(0.25, world.scale.soak_minutes)
    capacity = _capacity(world, world.scale.pick(5.0, 20.0))
    started = len(tasks.read_text().split())
    with world.load(rate=SHARE * capacity):
        world.answers(50)
        before = _lags(worker)
        samples = _sample(worker, minutes * 60.0)
        lag = p99_s(before, _lags(worker))
    world.settle()
    world.notes.append(f"{minutes:g} min at {SHARE * capacity:.0f} jobs/s, {SHARE:.0%} of {capacity:.0f}")
    slope = samples.slope_mib_per_min()
    world.check("RSS slope, MiB per minute", slope < MAX_SLOPE_MIB_PER_MIN, slope, f"< {MAX_SLOPE_MIB_PER_MIN:g}")
    world.check("event-loop lag, 99 % below", lag <= MAX_LAG_S, f"{1000 * lag:g} ms", f"≤ {1000 * MAX_LAG_S:g} ms")
    check_flat(world, "asyncio tasks", [int(n) for n in tasks.read_text().split()[started:]], slack=5)
    check_flat(world, "file descriptors", samples.descriptors, slack=5)
    check_no_dead_task(world, worker)


def _capacity(world: World, seconds: float) -> float:
    """Answers per second when jobs come as fast as they can."""
    with world.load(rate=_UNBOUNDED, jobs=1):
        world.answers(100)
        before, began = len(journal.answered(*world.journals)), time.monotonic()
        world.calm(seconds)
        took = time.monotonic() - began
        answered = len(journal.answered(*world.journals)) - before
    return answered / took


def _sample(worker: Worker, seconds: float) -> Samples:
    found, began = Samples(), time.monotonic()
    while (at := time.monotonic() - began) < seconds:
        found.at_s.append(at)
        found.rss_mib.append(worker.system.memory_info().rss / MIB)
        found.descriptors.append(worker.system.num_fds())
        time.sleep(_SAMPLE_S)
    return found


def _lags(worker: Worker) -> dict[float, float]:
    """The worker's own histogram: count by upper bound, seconds."""
    return worker.buckets("heimdall_event_loop_lag_seconds")


def p99_s(before: dict[float, float], after: dict[float, float]) -> float:
    """The bound under which 99 % of what came between two readings of a histogram lies, seconds."""
    counts = {bound: after[bound] - before.get(bound, 0.0) for bound in sorted(after)}
    total = counts[float("inf")] if counts else 0.0
    return next((bound for bound, count in counts.items() if count >= 0.99 * total), float("inf"))
