"""Watching how the serving versions do: a canary that fails is rolled back, production at fault keeps its jobs."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from worker.errors import HeimdallError
from worker.job import Job
from worker.serving.model import ModelVersion
from worker.serving.rollout import Rollout
from worker.serving.verdict import CanaryTrial, ProductionWatch
from worker.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)


class VersionAtFault(HeimdallError):
    """Production itself is at fault, not the jobs: they are kept, and computed again when another version serves."""

    def __init__(self, rollout: Rollout[ModelVersion]) -> None:
        super().__init__(f"version {rollout.primary.label} is at fault")
        self.rollout = rollout


class Trial:
    """Judges versions by what becomes of their samples.

    Args:
        fail: marks a version as failed and lets another serve.
        metrics: counts failures.
    """

    def __init__(self, fail: Callable[[ModelVersion, str], Awaitable[None]], metrics: Metrics) -> None:
        self._fail = fail
        self._metrics = metrics
        self._trials: dict[ModelVersion, CanaryTrial] = {}
        self._watches: dict[ModelVersion, ProductionWatch] = {}
        self._failing: dict[ModelVersion, asyncio.Task[None]] = {}

    def judge_production(self, jobs: Sequence[Job], rollout: Rollout[ModelVersion]) -> None:
        """Note what became of a batch's samples on production.

        Raises:
            VersionAtFault: it is at fault; nothing of the batch may be answered with its failures.
        """
        version = rollout.primary
        tried = [job for job in jobs if job.version is version]
        failed = sum(job.model_failures for job in tried)
        self._metrics.failures.labels(version.label).inc(failed)
        samples = sum(len(job.samples) for job in tried)
        reason = self._watches.setdefault(version, ProductionWatch()).observe(samples, failed)
        if reason is not None:
            self._begin_to_fail(version, reason)
            raise VersionAtFault(rollout)

    def judge_canary(self, version: ModelVersion, samples: int, rescued: int) -> None:
        """Note how many samples the canary had, and how many it failed on that production then located."""
        self._metrics.failures.labels(version.label).inc(rescued)
        reason = self._trials.setdefault(version, CanaryTrial()).observe(samples, rescued)
        if reason is not None:
            self._begin_to_fail(version, reason)

    def forget(self, version: ModelVersion) -> None:
        """Forget a version that retired."""
        self._trials.pop(version, None)
        self._watches.pop(version, None)

    async def close(self) -> None:
        """End what is under way."""
        for task in self._failing.values():
            task.cancel()
        await asyncio.gather(*self._failing.values(), return_exceptions=True)

    def _begin_to_fail(self, version: ModelVersion, reason: str) -> None:
        if version not in self._failing:
            task = asyncio.ensure_future(self._fail(version, reason))
            self._failing[version] = task
            task.add_done_callback(lambda _: self._failing.pop(version, None))
