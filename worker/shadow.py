"""The shadow: a version that is run beside production on the same jobs, after they are answered, and only compared.

It has a thread of its own and one batch at a time; what comes while it is busy, or under load, is dropped and counted.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import structlog

from worker.compute import prepare_runs, read_jobs
from worker.geo.wgs84 import wgs84_to_enu
from worker.job import Job
from worker.results import decode_rows
from worker.serving.model import ModelVersion
from worker.serving.outputs import Fix
from worker.serving.rollout import Rollout
from worker.stage import Stage
from worker.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)


class Shadow:
    """Runs the shadow version and compares.

    Args:
        metrics: where the divergence is shown.
        max_batch_size: samples of one run.
        under_load: whether there is something better to do.
    """

    def __init__(self, metrics: Metrics, max_batch_size: int, under_load: Callable[[], bool]) -> None:
        self._metrics = metrics
        self._max_batch_size = max_batch_size
        self._under_load = under_load
        self._stage = Stage("shadow")
        self._task: asyncio.Task[None] | None = None

    def offer(self, jobs: Sequence[Job], version: ModelVersion) -> None:
        """Offer settled jobs for comparison; returns at once."""
        located = [job for job in jobs if job.error is None and any(sample.fix for sample in job.samples)]
        if not located:
            return
        if self._under_load() or (self._task is not None and not self._task.done()):
            self._metrics.shadow_runs.labels("dropped").inc(sum(len(job.samples) for job in located))
            return
        self._task = asyncio.create_task(self._run(located, version))

    async def close(self) -> None:
        """End what is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._stage.close()

    async def _run(self, jobs: Sequence[Job], version: ModelVersion) -> None:
        try:
            await self._stage.run(partial(self._compare, jobs, version))
        except Exception as error:
            self._metrics.shadow_runs.labels("failed").inc(sum(len(job.samples) for job in jobs))
            log.warning("shadow.failed", version=version.label, error=repr(error))

    def _compare(self, jobs: Sequence[Job], version: ModelVersion) -> None:
        copies = [Job(job.delivery) for job in jobs]
        read_jobs(copies, Rollout(version), caching=False)
        for run in prepare_runs([s for copy in copies for s in copy.samples], self._max_batch_size):
            run.compute()
        decode_rows(copies)
        for job, copy in zip(jobs, copies, strict=True):
            fixes = {sample.index: sample.fix for sample in copy.samples}  # None at all where it refuses the job.
            for sample in job.samples:
                if sample.fix is not None:
                    self._note(sample.fix, fixes.get(sample.index))

    def _note(self, fix: Fix, shadow: Fix | None) -> None:
        metrics = self._metrics
        metrics.shadow_runs.labels("failed" if shadow is None else "compared").inc()
        if shadow is None:
            return
        offset = np.array(
            wgs84_to_enu(fix.latitude_deg, fix.longitude_deg, shadow.latitude_deg, shadow.longitude_deg)
        ).reshape(2)
        metrics.shadow_distance.observe(float(np.hypot(*offset)))
        metrics.shadow_mahalanobis.observe(float(np.sqrt(offset @ np.linalg.solve(fix.covariance_m2, offset))))
        areas = np.sqrt(np.linalg.det(shadow.covariance_m2) / np.linalg.det(fix.covariance_m2))
        metrics.shadow_area.observe(float(areas))
