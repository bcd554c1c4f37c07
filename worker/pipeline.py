"""One micro-batch from deliveries to acknowledgements, top to bottom.

    look-up of stored outcomes ∥ read → cache → features → cache → ONNX run → results → store → dead letters
    → replies and events (confirmed) → acknowledgements

The order keeps the promises: what is stored is what is sent, and nothing is acknowledged before it is sent.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar

import structlog

from worker.amqp.delivery import Delivery
from worker.amqp.session import AmqpSession
from worker.compute import Run, prepare_runs, read_jobs, unexpected
from worker.errors import CrashesWorker, Expired, InferenceFailed, JobIdConflict, Unavailable
from worker.job import Job, Sample
from worker.outgoing import dead_letter, event_publications, is_dead, reply
from worker.results import encode_results, error_outcome, stored_outcome
from worker.serving.batcher import LeaveFeatures
from worker.serving.model import Models
from worker.store.cache import FrontEntry, OutputCache, Row
from worker.store.outcomes import Outcomes
from worker.telemetry.metrics import Metrics
from worker.telemetry.performance import Performance

log = structlog.get_logger(__name__)

MAX_SOLO_STARTS: Final = 3

P = ParamSpec("P")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class PipelineOptions:
    """Figures the pipeline needs from the settings."""

    max_batch_size: int
    stale_after_s: float
    events_enabled: bool
    instance: str


class Pipeline:
    """Runs micro-batches. Several may be under way: the stages order them, one in features, one in the session.

    Args:
        models: what serves.
        outcomes: the store of terminal outcomes.
        cache: of raw outputs, or None.
        metrics: the catalogue.
        performance: latencies by version.
        options: figures.
    """

    def __init__(
        self,
        models: Models,
        outcomes: Outcomes,
        cache: OutputCache | None,
        metrics: Metrics,
        performance: Performance,
        options: PipelineOptions,
    ) -> None:
        self._models = models
        self._outcomes = outcomes
        self._cache = cache
        self._metrics = metrics
        self._performance = performance
        self._options = options
        self._features = Stage("features")
        self._session = Stage("session")

    async def run(self, deliveries: Sequence[Delivery], leave_features: LeaveFeatures) -> None:
        """One micro-batch to its end. Every delivery is settled, released, or left to a session that was lost.

        Args:
            deliveries: of the micro-batch.
            leave_features: called when the batch needs the features stage no more.
        """
        live = [delivery for delivery in deliveries if not delivery.session.lost.is_set()]
        jobs = [Job(delivery) for delivery in live]
        try:
            if jobs:
                self._metrics.batch_size.observe(len(jobs))
                await self._run(jobs, leave_features)
        except Unavailable as error:
            log.warning("batch.released", jobs=len(jobs), reason=str(error))
            await self._release(jobs)
        except Exception as error:
            await self._after_bug([job for job in jobs if job.delivery.open], error)

    def close(self) -> None:
        """End the threads."""
        self._features.close()
        self._session.close()

    async def _run(self, jobs: list[Job], leave_features: LeaveFeatures) -> None:
        _start_clock(jobs)
        with self._models.lease() as rollout:
            known, _ = await asyncio.gather(
                self._outcomes.lookup([job.job_id for job in jobs if job.job_id]),
                self._features.run(read_jobs, jobs, rollout, caching=self._cache is not None),
            )
            _answer_known(jobs, known)
            await self._count_suspect(jobs)
            open_ = [job for job in jobs if job.outcome is None and job.error is None]
            closed = [job for job in jobs if job.outcome is not None or job.error is not None]
            groups = list(_packed(open_, self._options.max_batch_size))
            if not groups:
                leave_features()
            await _all(self._settle(closed), *(self._locate(group, leave_features) for group in groups))

    async def _locate(self, jobs: list[Job], leave_features: LeaveFeatures) -> None:
        samples = [sample for job in jobs for sample in job.samples]
        for chunk in _chunks(samples, self._options.max_batch_size):
            await self._compute(chunk, leave_features)
        await asyncio.to_thread(encode_results, jobs, stale_after_s=self._options.stale_after_s)
        await _all(self._remember(samples), self._settle(jobs))

    async def _compute(self, samples: list[Sample], leave_features: LeaveFeatures) -> None:
        await self._recall_fronts(samples)
        missing = [sample for sample in samples if sample.row is None]
        started = time.perf_counter()
        runs = await self._features.run(prepare_runs, missing, self._options.max_batch_size)
        leave_features()
        if missing:
            self._metrics.up_preprocessing.observe(1000 * (time.perf_counter() - started))
        for run in runs:
            await self._infer(await self._recall_rows(run))
        if self._cache is not None:
            hits = sum(sample.cache_hit for sample in samples)
            self._metrics.cache_result(hits, len(samples) - hits)

    async def _infer(self, run: Run) -> None:
        """One ONNX run; where it fails, its halves, until the culprit is alone."""
        if not run.samples:
            return
        self._metrics.run_size.observe(len(run.samples))
        self._metrics.runs.labels(run.version.label).inc()
        started = time.perf_counter()
        try:
            await self._session.run(run.compute)
        except RuntimeError as error:
            await self._split(run, error)
            return
        took = time.perf_counter() - started
        self._metrics.up_onnx.observe(1000 * took)
        for job in {sample.job for sample in run.samples}:
            job.timings.inference += took

    async def _split(self, run: Run, error: RuntimeError) -> None:
        if len(run.samples) == 1:
            run.samples[0].error = InferenceFailed(str(error))
            return
        self._metrics.splits.inc()
        middle = len(run.samples) // 2
        await self._infer(run.part(range(middle)))
        await self._infer(run.part(range(middle, len(run.samples))))

    async def _recall_fronts(self, samples: Sequence[Sample]) -> None:
        """Give rows to samples whose identical input was computed before."""
        asked = [sample for sample in samples if sample.front_key is not None]
        if self._cache is None or not asked:
            return
        fronts = await self._cache.fronts([s.front_key for s in asked if s.front_key])
        rows = await self._cache.rows([entry.row_key for entry in fronts.values()])
        for sample in asked:
            entry = fronts.get(sample.front_key or b"")
            row = rows.get(entry.row_key) if entry else None
            self._metrics.cache.labels("front", "hit" if row else "miss").inc()
            if entry is not None and row is not None:
                _reuse(sample, entry, row)

    async def _recall_rows(self, run: Run) -> Run:
        """Give rows to samples whose tensors were computed before; the run of the others."""
        keys = [sample.row_key for sample in run.samples if sample.row_key is not None]
        if self._cache is None or not keys:
            return run
        rows = await self._cache.rows(keys)
        for sample in run.samples:
            if sample.row_key is not None:
                found = rows.get(sample.row_key)
                self._metrics.cache.labels("row", "hit" if found else "miss").inc()
                sample.row, sample.cache_hit = found, found is not None
        rest = [row for row, sample in enumerate(run.samples) if sample.row is None]
        return run if len(rest) == len(run.samples) else run.part(rest)

    async def _remember(self, samples: Sequence[Sample]) -> None:
        if self._cache is None:
            return
        fronts, rows = {}, {}
        for sample in samples:
            if sample.front_key and sample.row_key and sample.row is not None and sample.error is None:
                assert sample.seats is not None
                fronts[sample.front_key] = FrontEntry(sample.row_key, sample.seats.channels, sample.clipped)
                if not sample.cache_hit:
                    rows[sample.row_key] = sample.row
        await self._cache.store(fronts, rows)

    async def _count_suspect(self, jobs: Sequence[Job]) -> None:
        """Before work on a suspect, which runs alone, starts: count it, so that a crash leaves a trace."""
        for job in jobs:
            if not job.delivery.suspect or job.outcome is not None or job.error is not None or job.job_id is None:
                continue
            starts = await self._outcomes.count_suspect(job.job_id)
            log.warning("job.suspect", job_id=job.job_id, starts=starts)
            if starts >= MAX_SOLO_STARTS:
                job.error = CrashesWorker(
                    f"the worker process died {starts - 1} times while it computed this job alone"
                )

    async def _settle(self, jobs: Sequence[Job]) -> None:
        """Store → dead letters → replies and events → acknowledge."""
        if not jobs:
            return
        await self._store(jobs)
        for session, members in _by_session(jobs).items():
            await self._answer(session, members)
            await session.ack(job.delivery for job in members)
        await self._outcomes.clear_suspects([job.job_id for job in jobs if job.job_id and job.delivery.suspect])
        for job in jobs:
            self._count(job)

    async def _store(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            if job.outcome is None:
                assert job.error is not None
                job.outcome = error_outcome(job, job.error)
        fresh = [job for job in jobs if job.outcome and job.outcome.fresh and job.outcome.storable]
        started = time.perf_counter()
        stored = await self._outcomes.save([(job.job_id or "", job.outcome.body) for job in fresh if job.outcome])
        self._metrics.stage.labels("store").observe(time.perf_counter() - started)
        for job, body in zip(fresh, stored, strict=True):
            if job.outcome and body != job.outcome.body:
                _take_stored(job, body)

    async def _answer(self, session: AmqpSession, jobs: Sequence[Job]) -> None:
        started = time.perf_counter()
        letters = [dead_letter(job, self._options.instance) for job in jobs if is_dead(job)]
        if not all(await session.publish(letters)):
            session.lost.set()
            raise Unavailable("the dead-letter exchange has no queue: the broker's topology is incomplete")
        replies = [(job, publication) for job in jobs if (publication := reply(job)) is not None]
        events = [e for job in jobs for e in event_publications(job)] if self._options.events_enabled else []
        routed = await session.publish([publication for _, publication in replies] + events)
        for (job, _), arrived in zip(replies, routed, strict=False):
            if not arrived:
                self._metrics.undeliverable.inc()
                log.warning("reply.undeliverable", job_id=job.job_id, correlation_id=job.delivery.correlation_id)
        self._metrics.stage.labels("reply").observe(time.perf_counter() - started)

    async def _release(self, jobs: Iterable[Job]) -> None:
        for session, members in _by_session(jobs).items():
            released = await session.release(job.delivery for job in members)
            self._metrics.released.inc(released)

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
            await self._settle([job])
        except Unavailable as unavailable:
            log.warning("batch.released", jobs=1, reason=str(unavailable))
            await self._release([job])

    def _count(self, job: Job) -> None:
        outcome = job.outcome
        assert outcome is not None
        metrics = self._metrics
        metrics.jobs.labels("error" if outcome.error else "result").inc()
        if not outcome.fresh:
            metrics.repeats.inc()
            return
        if outcome.error is not None:
            metrics.failed(outcome.error)
            log.info(
                "job.failed",
                job_id=job.job_id,
                correlation_id=job.delivery.correlation_id,
                code=outcome.error,
                reason=outcome.reason,
            )
            if is_dead(job):
                metrics.dead_letters.labels(outcome.error).inc()
            return
        self._observe(job)

    def _observe(self, job: Job) -> None:
        metrics, timings = self._metrics, job.timings
        total = time.monotonic() - job.delivery.received
        assert job.version is not None
        located = sum(sample.error is None for sample in job.samples)
        metrics.samples.labels(job.version.label).inc(located)
        metrics.up_inferences.inc(located)
        metrics.job.labels(job.version.label).observe(total)
        self._performance.record(job.version.label, total, located)
        metrics.up_inference.observe(1000 * total)
        for stage in ("queue", "decode", "features", "inference", "geometry"):
            metrics.stage.labels(stage).observe(getattr(timings, stage))
        metrics.stage.labels("total").observe(total)
        log.debug(
            "job.located", job_id=job.job_id, correlation_id=job.delivery.correlation_id, version=job.version.label
        )


class Stage:
    """A thread of its own, one piece of work at a time, in the order asked.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def run(self, work: Callable[P, Answer], *args: P.args, **kwargs: P.kwargs) -> Answer:
        """Run in the thread."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, partial(work, *args, **kwargs))

    def close(self) -> None:
        """End the thread."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def _start_clock(jobs: Iterable[Job]) -> None:
    now, now_ms = time.monotonic(), time.time() * 1000
    for job in jobs:
        job.timings.queue = now - job.delivery.received
        job.error = job.delivery.problem
        deadline = job.delivery.headers.deadline_ms
        if job.error is None and deadline is not None and now_ms > deadline:
            job.error = Expired(f"the deadline passed {now_ms - deadline:.0f} ms before the job was computed")


def _answer_known(jobs: Iterable[Job], known: dict[str, bytes]) -> None:
    for job in jobs:
        body = known.get(job.job_id or "")
        if body is not None:
            _take_stored(job, body)


def _take_stored(job: Job, body: bytes) -> None:
    """What the store holds is what is sent, unless it answers other input."""
    stored, digest = stored_outcome(body)
    if digest == job.input_digest:
        job.outcome = stored
        return
    conflict = JobIdConflict("this job id was used before, with another body, other metadata or by another user")
    job.outcome = error_outcome(job, conflict, storable=False)


def _reuse(sample: Sample, entry: FrontEntry, row: Row) -> None:
    job = sample.job
    assert job.version is not None
    assert job.recording is not None
    recording = job.recording
    sample.seats = job.version.admission.reseat(recording.receivers, recording.channels, entry.channels)
    sample.clipped, sample.row, sample.cache_hit, sample.row_key = entry.clipped, row, True, entry.row_key


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


def _chunks(samples: Sequence[Sample], size: int) -> Iterator[list[Sample]]:
    for start in range(0, len(samples), size):
        yield list(samples[start : start + size])


def _by_session(jobs: Iterable[Job]) -> dict[AmqpSession, list[Job]]:
    groups: dict[AmqpSession, list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.delivery.session, []).append(job)
    return groups


async def _all(*steps: Coroutine[Any, Any, None]) -> None:
    """Await all, to the end of each, then raise the first failure: no step is left running unobserved."""
    results = await asyncio.gather(*steps, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
