"""Throughput and processor time, of jobs that lay in the queue before anybody worked on them, or of a queue kept full.

Only the steady middle counts: without the start, and without the last, unfilled batches.
"""

import time
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.processes import Meter, await_rest, paused
from bench.requests import Drained
from bench.subjects import Running
from bench.traffic import Traffic

FIRST, LAST = 0.15, 0.95
"""The part of a drain's jobs that counts."""
KEPT_FIRST: Final = 0.25
"""The part of the time that passes before a queue that is kept full counts."""
LEAST_JOBS: Final = 96
LEAST_KEPT: Final = 32
_POLL_S: Final = 0.02
_TRIAL_JOBS: Final = 96
_TRIAL_S: Final = 0.4
_TIMEOUT_S: Final = 60.0
_REST_S: Final = 10.0


class MeasurementFailed(RuntimeError):
    """A subject did not do what all others did; the message says what."""


@dataclass(frozen=True, slots=True)
class Drain:
    """What one measurement showed.

    Attributes:
        jobs: that count.
        cpu_us: of the subject's processes, per job.
        broker_cpu_us, store_cpu_us: of RabbitMQ and Redis, per job.
        hit_rate: fraction of all answers that came out of a cache.
    """

    jobs: int
    seconds: float
    jobs_per_s: float
    cpu_us: float
    broker_cpu_us: float
    store_cpu_us: float
    hit_rate: float


def drain(it: Running, traffic: Traffic, count: int, *, bodies: int = 0, keep_store: bool = False) -> Drain:
    """Fill the subject's queue while it is stopped, let it go on, and watch.

    Args:
        it: the subject.
        traffic: that fills and listens.
        count: of jobs.
        bodies: how many different ones; 0 = each job has its own.
        keep_store: do not empty Redis afterwards.

    Raises:
        MeasurementFailed: an answer is missing, or is no result.
        StartFailed: the subject ended.
    """
    place = it.conditions.place
    with paused(it.pids, place.amqp_port):
        traffic.fill(it.address, count, bodies=bodies)
        await_rest(place.broker_pids, _REST_S)  # It writes out what it was given, on the cores of the subject.
        traffic.expect(count, _TIMEOUT_S)
    answers, samples = _watched(it, traffic)
    it.check()
    if len(answers.at) < count or answers.errors:
        missing = count - len(answers.at)
        raise MeasurementFailed(f"{it.subject.name}: of {count} jobs {missing} unanswered, {answers.errors} failed")
    if not keep_store:
        place.forget_results()
    return _steady(answers, samples, int(FIRST * count), int(LAST * count) - 1)


def kept_full(it: Running, traffic: Traffic, seconds: float) -> Drain:
    """Publish a new job for every answer, and watch; how many wait is what was filled in before.

    Raises:
        MeasurementFailed: an answer is no result, or there are too few.
    """
    began = time.monotonic()
    traffic.keep(seconds)
    answers, samples = _watched(it, traffic)
    it.check()
    at = np.array(answers.at)
    first = int(np.searchsorted(at, began + KEPT_FIRST * seconds))
    if answers.errors or len(at) - first < LEAST_KEPT:
        raise MeasurementFailed(f"{it.subject.name}: {len(at)} answers in {seconds:g} s, {answers.errors} failed")
    return _steady(answers, samples, first, len(at) - 1)


def fitting_count(it: Running, traffic: Traffic, seconds: float) -> int:
    """How many jobs occupy the subject for about so long; at most what its workload lays down."""
    most = it.conditions.workload.drained
    trial = drain(it, traffic, _TRIAL_JOBS)
    again = drain(it, traffic, min(most, max(LEAST_JOBS, int(trial.jobs_per_s * _TRIAL_S))))
    return min(most, max(LEAST_JOBS, int(again.jobs_per_s * seconds / (LAST - FIRST))))


def _watched(it: Running, traffic: Traffic) -> tuple[Drained, NDArray[np.float64]]:
    """The answers, and samples (time, processor seconds of subject, broker and store) until they were there."""
    place = it.conditions.place
    meters = [Meter(it.pids), Meter(place.broker_pids), Meter(place.store_pids)]
    samples: list[tuple[float, ...]] = []
    answers: Drained | None = None
    while answers is None:
        samples.append((time.monotonic(), *(meter.read() for meter in meters)))
        answers = traffic.answers(_POLL_S)
    samples.append((time.monotonic(), *(meter.read(again=True) for meter in meters)))
    return answers, np.array(samples)


def _steady(answers: Drained, samples: NDArray[np.float64], first: int, last: int) -> Drain:
    at = answers.at
    jobs, seconds = last - first, at[last] - at[first]
    used = [
        float(np.interp(at[last], samples[:, 0], column) - np.interp(at[first], samples[:, 0], column))
        for column in samples[:, 1:].T
    ]
    subject, broker, store = (1e6 * value / jobs for value in used)
    return Drain(jobs, seconds, jobs / seconds, subject, broker, store, answers.hits / len(at))
