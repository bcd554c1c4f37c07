"""From read jobs to a row of raw output for each of their samples: cache, features, cache, ONNX run.

Cached rows are looked up twice: by the input before the features, which are skipped then, and by the tensors after,
where running the model would take longer.
"""

import time
from collections.abc import Sequence

from schemas.job import JSON_CONTENT_TYPE
from worker.compute import Run, allocate_runs, read_jobs, sound_runs
from worker.errors import InferenceFailed
from worker.job import Job, Sample
from worker.serving.batcher import LeaveFeatures
from worker.serving.model import ModelVersion
from worker.serving.rollout import Rollout
from worker.stage import SMALL_BYTES, SMALL_IQ, Stage
from worker.store.cache import FrontEntry, OutputCache, Row
from worker.telemetry import tracing
from worker.telemetry.metrics import Metrics


class Locator:
    """Computes samples. Several batches may be under way: one in features, one in the session, the others wait.

    Args:
        cache: of raw outputs, or None.
        metrics: the catalogue.
        max_batch_size: samples of one run.
    """

    def __init__(self, cache: OutputCache | None, metrics: Metrics, max_batch_size: int) -> None:
        self._cache = cache
        self._metrics = metrics
        self._max_batch_size = max_batch_size
        self.progress_at = time.monotonic()
        """When a step of any batch last ended, monotonic seconds."""
        self._features = Stage("features")
        self._session = Stage("session")

    async def read(self, jobs: Sequence[Job], rollout: Rollout[ModelVersion]) -> None:
        """Digest, parse and admit each job; what is wrong with one stands in its `error`."""

        def reading(part: range) -> None:
            read_jobs(jobs[part.start : part.stop], rollout, caching=self._cache is not None)

        with tracing.stage("read"):
            await self._features.run_each(reading, [_reading_size(job) for job in jobs], SMALL_BYTES)

    async def recall(self, samples: Sequence[Sample]) -> None:
        """Give rows to samples with a front key whose identical input came before; to be called before `locate`."""
        if self._cache is None or not samples:
            return
        fronts = await self._cache.fronts([sample.front_key for sample in samples if sample.front_key])
        rows = await self._cache.rows([entry.row_key for entry in fronts.values()])
        for sample in samples:
            entry = fronts.get(sample.front_key or b"")
            row = rows.get(entry.row_key) if entry else None
            self._metrics.cache.labels("front", "hit" if row else "miss").inc()
            if entry is not None and row is not None:
                _reuse(sample, entry, row)

    async def locate(self, samples: Sequence[Sample], leave_features: LeaveFeatures) -> None:
        """Give each sample its row of raw output, or its error.

        Args:
            samples: any number; more than a run holds are computed in several, and other batches come in between.
            leave_features: called when the first of them has left the features stage.
        """
        for start in range(0, len(samples), self._max_batch_size):
            await self._compute(samples[start : start + self._max_batch_size], leave_features)

    async def _compute(self, samples: Sequence[Sample], leave_features: LeaveFeatures) -> None:
        missing = [sample for sample in samples if sample.row is None]
        started = time.perf_counter()
        runs = allocate_runs(missing, self._max_batch_size)
        with tracing.stage("features"):
            for run in runs:
                await self._features.run_each(run.fill, run.iq_counts(), SMALL_IQ)
        runs = sound_runs(runs)
        self.progress_at = time.monotonic()
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
            with tracing.stage("inference"):
                await self._session.run(run.compute, small=run.quick)
        except RuntimeError as error:
            await self._split(run, error)
            return
        self.progress_at = time.monotonic()
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

    async def _recall_rows(self, run: Run) -> Run:
        """Give rows to samples whose tensors were computed before; the run of the others.

        A quick run takes less time than looking them up.
        """
        keys = [sample.row_key for sample in run.samples if sample.row_key is not None]
        if self._cache is None or not keys or run.quick:
            return run
        rows = await self._cache.rows(keys)
        for sample in run.samples:
            if sample.row_key is not None:
                found = rows.get(sample.row_key)
                self._metrics.cache.labels("row", "hit" if found else "miss").inc()
                sample.row, sample.cache_hit = found, found is not None
        rest = [row for row, sample in enumerate(run.samples) if sample.row is None]
        return run if len(rest) == len(run.samples) else run.part(rest)

    async def remember(self, samples: Sequence[Sample]) -> None:
        """Cache the rows that were computed."""
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

    def close(self) -> None:
        """End the threads."""
        self._features.close()
        self._session.close()


def _reuse(sample: Sample, entry: FrontEntry, row: Row) -> None:
    job = sample.job
    assert job.version is not None
    assert job.recording is not None
    recording = job.recording
    sample.seats = job.version.admission.reseat(recording.receivers, recording.channels, entry.channels)
    sample.clipped, sample.row, sample.cache_hit, sample.row_key = entry.clipped, row, True, entry.row_key


def _reading_size(job: Job) -> int:
    """Bytes to be read; JSON takes far longer per byte, and is never small."""
    return SMALL_BYTES + 1 if job.delivery.content_type == JSON_CONTENT_TYPE else len(job.delivery.dataset)
