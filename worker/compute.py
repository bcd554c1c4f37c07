"""The steps of a micro-batch that need a thread: reading jobs, features, runs of the model. No I/O, no event loop."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import structlog

from schemas.job import JSON_CONTENT_TYPE
from worker.errors import InternalError, JobError
from worker.job import Job, Sample
from worker.recording import decode_capture, read_json, read_sigmf
from worker.serving.inputs import Item, Tensors, row_digest
from worker.serving.model import ModelVersion
from worker.serving.rollout import Rollout
from worker.store.cache import front_key, row_key

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Run:
    """Samples that one ONNX run computes together.

    Attributes:
        tensors: in canonical order, a row per sample.
    """

    version: ModelVersion
    samples: list[Sample]
    tensors: Tensors

    def part(self, rows: Sequence[int]) -> "Run":
        """The same for some of the samples."""
        tensors = {name: tensor[list(rows)] for name, tensor in self.tensors.items()}
        return Run(self.version, [self.samples[row] for row in rows], tensors)

    def compute(self) -> None:
        """Run the model, and give each sample its row.

        Raises:
            RuntimeError: the graph failed.
        """
        version = self.version
        outputs = version.session.run(version.contract.outputs, version.plan.feed(self.tensors))
        for row, sample in enumerate(self.samples):
            sample.row = {name: values[row] for name, values in outputs.items()}


def read_jobs(jobs: Iterable[Job], rollout: Rollout[ModelVersion], *, caching: bool) -> None:
    """Digest, parse and admit each job; what is wrong with one stands in its `error`."""
    for job in jobs:
        try:
            job.digest_input()
            if job.error is None:
                _read(job, rollout, caching=caching)
        except JobError as error:
            job.error = error
        except Exception as error:
            job.error = unexpected(error, job)


def prepare_runs(samples: Sequence[Sample], max_batch_size: int) -> list[Run]:
    """Decode and compute the features of samples that are to be computed; the runs they form.

    Samples whose features cannot be computed carry their error, and are in no run.
    """
    groups: dict[tuple[ModelVersion, tuple[int, ...]], list[Sample]] = {}
    for sample in samples:
        version = sample.job.version
        if version is not None:
            groups.setdefault((version, version.plan.shape_key(_length(sample))), []).append(sample)
    runs = [
        _features(version, members[start : start + max_batch_size])
        for (version, _), members in groups.items()
        for start in range(0, len(members), max_batch_size)
    ]
    return [run for run in runs if run.samples]


def unexpected(error: Exception, job: Job) -> InternalError:
    """An answer to a bug; the traceback goes to the log."""
    log.error("job.internal_error", job_id=job.job_id, correlation_id=job.delivery.correlation_id, exc_info=error)
    return InternalError(f"the worker failed unexpectedly ({type(error).__name__}); its log has the traceback")


def _read(job: Job, rollout: Rollout[ModelVersion], *, caching: bool) -> None:
    delivery = job.delivery
    if delivery.content_type == JSON_CONTENT_TYPE:
        job.recording = read_json(delivery.body)
    else:
        job.recording = read_sigmf(delivery.sigmf, delivery.dataset)
    job.version = rollout.choose(job.session_id or job.job_id or "")
    job.version.admission.check(job.recording)
    job.samples = [Sample(job, index) for index in range(len(job.recording.ranges))]
    if caching and job.cache_enabled:
        described = job.recording.describe()
        for sample in job.samples:
            place = job.recording.ranges[sample.index]
            sample.front_key = front_key(
                job.version.cache_scope, job.body_digest, described, place, sample.index if job.recording.batch else 0
            )


def _decode(sample: Sample) -> Item | None:
    job = sample.job
    assert job.recording is not None
    assert job.version is not None
    started = time.perf_counter()
    try:
        plan = job.version.plan
        capture = decode_capture(job.recording, sample.index, job.version.contract.level)
        seats = job.version.admission.seat(capture.receivers, job.recording.channels, lambda: plan.powers(capture))
    except JobError as error:
        sample.error = error
        return None
    except Exception as error:
        sample.error = unexpected(error, job)
        return None
    sample.seats, sample.clipped = seats, capture.clipped
    job.timings.decode += time.perf_counter() - started
    return Item(capture, seats)


def _length(sample: Sample) -> int:
    """Samples per receiver."""
    assert sample.job.recording is not None
    return sample.job.recording.ranges[sample.index][1]


def _features(version: ModelVersion, members: Sequence[Sample]) -> Run:
    """One after the other from bytes to features: decoded IQ is large, and is used while it lies in the cache."""
    tensors = version.plan.allocate(len(members), _length(members[0]))
    computed = [row for row, sample in enumerate(members) if _fill(version, tensors, row, sample)]
    run = Run(version, list(members), tensors)
    return run if len(computed) == len(members) else run.part(computed)


def _fill(version: ModelVersion, tensors: Tensors, row: int, sample: Sample) -> bool:
    """Decode one sample and compute its features; False where that cannot be done."""
    item = _decode(sample)
    if item is None:
        return False
    started = time.perf_counter()
    try:
        version.plan.fill(tensors, row, item)
        if sample.front_key is not None:
            sample.row_key = row_key(version.cache_scope, row_digest(tensors, row, item.seats))
    except JobError as error:
        sample.error = error
    except Exception as error:
        sample.error = unexpected(error, sample.job)
    sample.job.timings.features += time.perf_counter() - started
    return sample.error is None
