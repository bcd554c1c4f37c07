"""One micro-batch from deliveries to acknowledgements, top to bottom.

jobs read → stored outcomes and cache looked up → features → cache → ONNX run → results
→ store → dead letters → replies and events (confirmed) → acknowledgements
"""

import asyncio
import time
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from typing import Any, Final

import structlog

from worker.amqp.delivery import Delivery
from worker.compute import unexpected
from worker.errors import CrashesWorker, Expired, Unavailable
from worker.job import Job, Sample, suspect_ids
from worker.locating import Locator
from worker.results import decode_rows, encode_results
from worker.serving.batcher import LeaveFeatures
from worker.serving.model import Models, ModelVersion
from worker.serving.rollout import Rollout
from worker.settling import Settler, take_stored
from worker.shadow import Shadow
from worker.store.outcomes import Outcomes
from worker.telemetry import tracing
from worker.telemetry.metrics import Metrics
from worker.trial import Trial, VersionAtFault

log = structlog.get_logger(__name__)

MAX_SOLO_STARTS: Final = 3
SMALL_SAMPLES: Final = 32
"""So many are decoded and encoded in 2 ms."""


class Pipeline:
    """Runs micro-batches. Several may be under way at once; the stages order them.

    Args:
        models: what serves.
        outcomes: the store of terminal outcomes.
        locator: computes samples.
        settler: ends jobs.
        trial: judges the versions by what becomes of their samples.
        shadow: compares a version that does not answer.
        metrics: the catalogue.
        max_batch_size: samples of one run.
        stale_after_s: age from which a result is flagged.
    """

    def __init__(
        self,
        models: Models,
        outcomes: Outcomes,
        locator: Locator,
        settler: Settler,
        trial: Trial,
        shadow: Shadow,
        metrics: Metrics,
        *,
        max_batch_size: int,
        stale_after_s: float,
    ) -> None:
        self._models = models
        self._outcomes = outcomes
        self._locator = locator
        self._settler = settler
        self._trial = trial
        self._shadow = shadow
        self._metrics = metrics
        self._max_batch_size = max_batch_size
        self._stale_after_s = stale_after_s

    async def run(self, deliveries: Sequence[Delivery], leave_features: LeaveFeatures) -> None:
        """One micro-batch to its end. Every delivery is settled, released, or left to a session that was lost.

        Args:
            deliveries: of the micro-batch.
            leave_features: called when the batch needs the features stage no more.
        """
        jobs = _jobs(deliveries)
        try:
            if jobs:
                self._metrics.batch_size.observe(len(jobs))
                with tracing.batch(jobs):
                    await self._run(jobs, leave_features)
        except VersionAtFault as fault:
            log.warning("batch.kept", jobs=len(jobs), reason=str(fault))
            leave_features()
            # They are begun anew, and the worker did not die of them.
            await self._outcomes.forgive_suspects(suspect_ids(jobs))
            await self._models.replaced(fault.rollout)
            await self.run(deliveries, leave_features)
        except Unavailable as error:
            log.warning("batch.released", jobs=len(jobs), reason=str(error))
            await self._settler.release(jobs)
        except Exception as error:
            await self._after_bug([job for job in jobs if job.delivery.open], error)

    async def _run(self, jobs: list[Job], leave_features: LeaveFeatures) -> None:
        _start_clock(jobs)
        await self._count_suspect(jobs)
        with self._models.lease() as rollout:
            await self._locator.read(jobs, rollout)
            _answer_known(jobs, await self._look_up(jobs))
            open_ = [job for job in jobs if job.outcome is None and job.error is None]
            closed = [job for job in jobs if job.outcome is not None or job.error is not None]
            groups = list(_packed(open_, self._max_batch_size))
            if not groups:
                leave_features()
            steps = [self._settler.settle(closed)] if closed else []  # First: features may keep the event loop.
            steps += [self._locate(group, rollout, leave_features) for group in groups]
            await _all(steps)

    async def _look_up(self, jobs: Sequence[Job]) -> dict[str, bytes]:
        """Stored outcomes by job id; samples whose input is in the cache get their rows at the same time."""
        lookup = self._outcomes.lookup([job.job_id for job in jobs if job.job_id])
        cached = _cached(job for job in jobs if job.error is None)
        if not cached:
            return await lookup
        known, _ = await asyncio.gather(lookup, self._locator.recall(cached))
        return known

    async def _locate(self, jobs: list[Job], rollout: Rollout[ModelVersion], leave_features: LeaveFeatures) -> None:
        await self._locator.locate(_samples(jobs), leave_features)
        if rollout.canary is None:
            with tracing.stage("geometry"):
                await self._finish(jobs)
        else:
            await asyncio.to_thread(decode_rows, jobs)
            await self._rescue(jobs, rollout.canary, rollout)
            with tracing.stage("geometry"):
                await asyncio.to_thread(self._encode, jobs)
        self._trial.judge_production(jobs, rollout)
        steps = [self._settler.settle(jobs)]
        if cached := _cached(jobs):
            steps.append(self._locator.remember(cached))
        await _all(steps)
        if rollout.shadow is not None:
            self._shadow.offer([job for job in jobs if job.version is rollout.primary], rollout.shadow)

    async def _finish(self, jobs: Sequence[Job]) -> None:
        """Positions, ellipses and JSON; of a few samples on the event loop, see `worker.stage`."""
        if len(_samples(jobs)) <= SMALL_SAMPLES:
            self._decode_and_encode(jobs)
        else:
            await asyncio.to_thread(self._decode_and_encode, jobs)

    def _decode_and_encode(self, jobs: Sequence[Job]) -> None:
        decode_rows(jobs)
        self._encode(jobs)

    def _encode(self, jobs: Sequence[Job]) -> None:
        encode_results(jobs, stale_after_s=self._stale_after_s)

    async def _rescue(self, jobs: Sequence[Job], canary: ModelVersion, rollout: Rollout[ModelVersion]) -> None:
        """Give production the jobs that the canary failed on, before they are answered."""
        tried = [job for job in jobs if job.version is canary]
        samples = len(_samples(tried))
        failures = {job: count for job in tried if (count := job.model_failures)}
        if failures:
            self._metrics.reruns.inc(len(failures))
            await self._locator.read(list(failures), Rollout(rollout.primary))
            again = [job for job in failures if job.error is None]
            await self._locator.recall(_cached(again))
            await self._locator.locate(_samples(again), lambda: None)
            await asyncio.to_thread(decode_rows, again)
        located = [job for job in failures if job.error is None and not job.model_failures]
        self._trial.judge_canary(canary, samples, sum(failures[job] for job in located))

    async def _count_suspect(self, jobs: Sequence[Job]) -> None:
        """Before anything is done with a suspect, which runs alone: count it, so that a crash leaves a trace."""
        for job in jobs:
            if job.delivery.suspect and job.error is None and job.job_id is not None:
                starts = await self._outcomes.count_suspect(job.job_id)
                log.warning("job.suspect", job_id=job.job_id, starts=starts)
                if starts >= MAX_SOLO_STARTS:
                    job.error = CrashesWorker(
                        f"the worker process died {starts - 1} times while it worked on this job alone"
                    )

    async def _after_bug(self, jobs: list[Job], error: Exception) -> None:
        """A bug outside any one job's own steps: each job is tried alone, and fails alone."""
        if len(jobs) > 1:
            log.error("batch.internal_error", jobs=len(jobs), exc_info=error)
            for job in jobs:
                await self.run([job.delivery], lambda: None)
            return
        for job in jobs:
            await self._fail(Job(job.delivery), error)

    async def _fail(self, job: Job, error: Exception) -> None:
        job.digest_input()
        job.error = unexpected(error, job)
        try:
            await self._settler.settle([job])
        except Exception as second:
            log.exception("batch.released", jobs=1, reason=str(second))
            await self._settler.release([job])


def _jobs(deliveries: Iterable[Delivery]) -> list[Job]:
    """Jobs of the deliveries that are still to be settled, by a session that can."""
    jobs = [Job(d) for d in deliveries if d.held]
    mates = tuple(job.job_id for job in jobs if job.job_id)
    for job in jobs:
        job.mates = mates
    return jobs


def _start_clock(jobs: Iterable[Job]) -> None:
    now, now_ms = time.monotonic(), time.time() * 1000
    for job in jobs:
        job.timings.queue = now - job.delivery.received
        job.error = job.delivery.problem
        deadline = job.delivery.headers.deadline_ms
        if job.error is None and deadline is not None and now_ms > deadline:
            job.error = Expired(f"the deadline passed {now_ms - deadline:.0f} ms before the job was computed")


def _samples(jobs: Iterable[Job]) -> list[Sample]:
    return [sample for job in jobs for sample in job.samples]


def _cached(jobs: Iterable[Job]) -> list[Sample]:
    """Samples that the cache is used for."""
    return [sample for sample in _samples(jobs) if sample.front_key is not None]


def _answer_known(jobs: Iterable[Job], known: dict[str, bytes]) -> None:
    for job in jobs:
        body = known.get(job.job_id or "")
        if body is not None:
            take_stored(job, body)


def _packed(jobs: Iterable[Job], size: int) -> Iterator[list[Job]]:
    """Jobs in groups of at most `size` samples, so that small jobs do not wait for the end of a large one."""
    group: list[Job] = []
    filled = 0
    for job in jobs:
        if group and filled + len(job.samples) > size:
            yield group
            group, filled = [], 0
        group.append(job)
        filled += len(job.samples)
    if group:
        yield group


async def _all(steps: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Await all, to the end of each, then raise the first failure: no step is left running unobserved."""
    if len(steps) == 1:
        await steps[0]  # Without a task and a future of its own.
        return
    results = await asyncio.gather(*steps, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
