"""Floors measured in one process, which no worker can go below: decode, features and ONNX; a write to Redis.

    python -m bench.floors WORKLOAD MODEL REDIS_URL SECONDS

prints one JSON object: processor time per job at the best batch size, and the wall time of a lone job.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import redis

from bench.latency import LONE_PAUSES_S
from bench.recipe import RawJob, Recipe
from bench.workloads import WORKLOADS

BATCH_SIZES: Final = (1, 2, 4, 8, 16, 32)
BODIES: Final = 64
TTL_S: Final = 3600
_LEAST_ROUNDS: Final = 5
_LEAST_CALLS: Final = 25
_SEED: Final = 5


@dataclass(frozen=True, slots=True)
class Floors:
    """What one process measured.

    Attributes:
        features_us, onnx_us: processor time per job at the batch size where their sum is least.
        answers_us: of geometry, GeoJSON and encoding, at the largest batch.
        batch_size: the best one.
        redis_us: processor time of the client per job, one pipeline per batch.
        lone_compute_ms, lone_redis_ms: wall time of one job alone: features and ONNX; one SET.
        result_bytes: of a result.
        stored_bytes: that Redis takes for it.
    """

    features_us: float
    onnx_us: float
    answers_us: float
    batch_size: int
    redis_us: float
    lone_compute_ms: float
    lone_redis_ms: float
    result_bytes: int
    stored_bytes: int

    @property
    def compute_us(self) -> float:
        """Floor (a)."""
        return self.features_us + self.onnx_us


def measure(workload: str, model: Path, redis_url: str, seconds: float) -> Floors:
    """Measure all of it.

    Args:
        workload: its name.
        model: its file.
        redis_url: of the store; keys begin with `heimdall:floor:`.
        seconds: altogether, about.
    """
    recipe, jobs = Recipe(model), _jobs(workload)
    each = seconds / (2 * len(BATCH_SIZES) + 4)
    by_size = {size: _compute_us(recipe, jobs, size, each) for size in BATCH_SIZES}
    best = min(by_size, key=lambda size: sum(by_size[size]))
    rows = recipe.infer(recipe.features(jobs[:32]))
    answers_us = _cpu_us(lambda: recipe.answers(jobs[:32], rows), each) / 32
    result = recipe.answers(jobs[:32], rows)[0].result
    with redis.Redis.from_url(redis_url) as store:
        return Floors(
            *by_size[best],
            answers_us,
            best,
            _cpu_us(lambda: _store(store, result, 32), each) / 32,
            _wall_ms(lambda index: recipe.infer(recipe.features([jobs[index % len(jobs)]])), each),
            _wall_ms(lambda index: store.set(f"heimdall:floor:{index}", result, nx=True, ex=TTL_S), each),
            len(result),
            int(store.memory_usage("heimdall:floor:0") or 0),
        )


def _jobs(workload: str) -> list[RawJob]:
    known = WORKLOADS[workload]
    sigmf = known.sigmf()
    return [RawJob(f"floor-{index}", sigmf, body) for index, body in enumerate(known.make_bodies(BODIES))]


def _compute_us(recipe: Recipe, jobs: Sequence[RawJob], size: int, seconds: float) -> tuple[float, float]:
    """Features and ONNX, processor time per job, µs."""
    batches = [jobs[start : start + size] for start in range(0, len(jobs), size)]
    turn = iter(range(10**9))
    features = _cpu_us(lambda: recipe.features(batches[next(turn) % len(batches)]), seconds)
    tensors = recipe.features(batches[0])
    return features / size, _cpu_us(lambda: recipe.infer(tensors), seconds) / size


def _cpu_us(step: Callable[[], object], seconds: float) -> float:
    """Processor time of one call, µs: the median of rounds, so that a disturbed round does not count."""
    step()
    used: list[float] = []
    ends = time.monotonic() + seconds
    while len(used) < _LEAST_ROUNDS or time.monotonic() < ends:
        before = time.process_time_ns()
        step()
        used.append((time.process_time_ns() - before) / 1000)
    return median(used)


def _wall_ms(step: Callable[[int], object], seconds: float) -> float:
    """Wall time of one call, ms: the median, with pauses between the calls as between lone jobs.

    A call right after another finds caches and branches as it left them, which a lone job never does.
    """
    taken: list[float] = []
    rng = np.random.default_rng(_SEED)
    ends = time.monotonic() + seconds
    while len(taken) < _LEAST_CALLS or time.monotonic() < ends:
        time.sleep(rng.uniform(*LONE_PAUSES_S))
        before = time.perf_counter()
        step(len(taken))
        taken.append(1000 * (time.perf_counter() - before))
    return median(taken)


def _store(store: "redis.Redis", result: bytes, size: int) -> None:
    pipeline = store.pipeline(transaction=False)
    for _ in range(size):
        pipeline.set(f"heimdall:floor:{time.monotonic_ns()}", result, nx=True, ex=TTL_S)
    pipeline.execute()


if __name__ == "__main__":
    name, path, url, length = sys.argv[1:]
    found = measure(name, Path(path), url, float(length))
    print(json.dumps({field: getattr(found, field) for field in found.__dataclass_fields__}))
