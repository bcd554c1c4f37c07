"""The arithmetic of a micro-batch: reading jobs, features, runs of the model. No I/O; it may run in a thread."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import structlog

from schemas.job import JSON_CONTENT_TYPE
from worker.errors import InternalError, JobError
from worker.job import Job, Sample
from worker.reading import read_json, read_sigmf
from worker.recording import decode_capture
from worker.serving.inputs import Item, Tensors, row_digest
from worker.serving.model import ModelVersion
from worker.serving.rollout import Rollout
from worker.stage import SMALL_RUN_S
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

    @property
    def quick(self) -> bool:
        """Whether the model takes no longer than the event loop may be kept."""
        return self.version.session.full_batch_s <= SMALL_RUN_S

    def iq_counts(self) -> list[int]:
        """Complex numbers that each sample's features are computed from."""
        return [_length(sample) * sample.job.recording.channels for sample in self.samples if sample.job.recording]

    def fill(self, rows: Iterable[int]) -> None:
        """Decode samples and compute their features.

        One after the other: decoded IQ is large, and is used while it lies in the processor's cache.
        """
        for row in rows:
            _fill(self.version, self.tensors, row, self.samples[row])

    def sound(self) -> list[int]:
        """Rows of the samples that have no error."""
        return [row for row, sample in enumerate(self.samples) if sample.error is None]

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


def allocate_runs(samples: Sequence[Sample], max_batch_size: int) -> list[Run]:
    """The runs that samples form which are to be computed, their tensors still to be filled."""
    groups: dict[tuple[ModelVersion, tuple[int, ...]], list[Sample]] = {}
    for sample in samples:
        version = sample.job.version
        if version is not None:
            groups.setdefault((version, version.plan.shape_key(_length(sample))), []).append(sample)
    return [
        _allocated(version, members[start : start + max_batch_size])
        for (version, _), members in groups.items()
        for start in range(0, len(members), max_batch_size)
    ]


def sound_runs(runs: Iterable[Run]) -> list[Run]:
    """Filled runs without the samples whose features could not be computed, which carry their error."""
    kept = (run.part(rows) if len(rows) < len(run.samples) else run for run, rows in ((r, r.sound()) for r in runs))
    return [run for run in kept if run.samples]


def prepare_runs(samples: Sequence[Sample], max_batch_size: int) -> list[Run]:
    """Runs allocated, filled and sound, in one go."""
    runs = allocate_runs(samples, max_batch_size)
    for run in runs:
        run.fill(range(len(run.samples)))
    return sound_runs(runs)


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


def _allocated(version: ModelVersion, members: list[Sample]) -> Run:
    return Run(version, members, version.plan.allocate(len(members), _length(members[0])))


def _fill(version: ModelVersion, tensors: Tensors, row: int, sample: Sample) -> None:
    """Decode one sample and compute its features, or give it its error."""
    item = _decode(sample)
    if item is None:
        return
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
