"""The arithmetic of a micro-batch: reading jobs, features, runs of the model. No I/O; it may run in a thread."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from weakref import ref

import structlog

from schemas.job import JSON_CONTENT_TYPE
from worker.errors import InternalError, JobError
from worker.job import Job, Sample
from worker.reading import read_json, read_sigmf
from worker.recording import decode_capture
from worker.serving.inputs import Tensors, row_digest
from worker.serving.items import TOGETHER_IQ, Item
from worker.serving.model import ModelVersion
from worker.serving.rollout import Rollout
from worker.stage import SMALL_RUN_S, pieces
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
        return [_iq_count(sample) for sample in self.samples]

    def fill(self, rows: range) -> None:
        """Decode samples and compute their features."""
        for handful in self._handfuls(rows):
            items = [(row, _decode(self.samples[row])) for row in handful]
            for _, alike in groupby(items, key=_layout):
                self._fill([(row, item) for row, item in alike if item is not None])

    def _handfuls(self, rows: range) -> Iterator[range]:
        """Rows to be decoded before their features are computed.

        Small ones several at a time: numpy's calls take longer than what they do for one. Large ones one after the
        other: decoded IQ is used while it lies in the processor's cache.
        """
        for part, small in pieces([_iq_count(self.samples[row]) for row in rows], TOGETHER_IQ):
            some = rows[part.start : part.stop]
            yield from [some] if small else (range(row, row + 1) for row in some)

    def sound(self) -> list[int]:
        """Rows of the samples that have no error."""
        return [row for row, sample in enumerate(self.samples) if sample.error is None]

    def part(self, rows: Sequence[int]) -> "Run":
        """The same for some of the samples."""
        tensors = {name: tensor[list(rows)] for name, tensor in self.tensors.items()}
        return Run(self.version, [self.samples[row] for row in rows], tensors)

    def _fill(self, items: Sequence[tuple[int, Item]]) -> None:
        """Compute the features of items of one layout into neighbouring rows, or give each its error."""
        if not items:
            return
        started = time.perf_counter()
        samples = [self.samples[row] for row, _ in items]
        try:
            self.version.plan.fill(self.tensors, items[0][0], *[item for _, item in items])
            for sample, (row, item) in zip(samples, items, strict=True):
                if sample.front_key is not None:
                    sample.row_key = row_key(self.version.cache_scope, row_digest(self.tensors, row, item.seats))
        except Exception as error:
            if len(items) > 1:  # Whose fault it is shows when each is alone.
                for entry in items:
                    self._fill([entry])
                return
            samples[0].error = error.as_value() if isinstance(error, JobError) else unexpected(error, samples[0].job)
        took = (time.perf_counter() - started) / len(items)
        for sample in samples:
            sample.job.timings.features += took

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
            job.error = error.as_value()
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
    job.samples = []  # Of a job that is read again they are the canary's, and would count as production's failures.
    if delivery.content_type == JSON_CONTENT_TYPE:
        job.recording = read_json(delivery.body)
    else:
        job.recording = read_sigmf(delivery.sigmf, delivery.dataset)
    job.version = rollout.choose(job.session_id or job.job_id or "")
    job.version.admission.check(job.recording)
    job.samples = [Sample(ref(job), index) for index in range(len(job.recording.ranges))]
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
        sample.error = error.as_value()
        return None
    except Exception as error:
        sample.error = unexpected(error, job)
        return None
    sample.seats, sample.clipped = seats, capture.clipped
    job.timings.decode += time.perf_counter() - started
    return Item(capture, seats)


def _layout(entry: tuple[int, Item | None]) -> object:
    """Of an item of `Run.fill`; None where decoding failed."""
    return None if entry[1] is None else entry[1].layout


def _length(sample: Sample) -> int:
    """Samples per receiver."""
    assert sample.job.recording is not None
    return sample.job.recording.ranges[sample.index][1]


def _iq_count(sample: Sample) -> int:
    assert sample.job.recording is not None
    return _length(sample) * sample.job.recording.channels


def _allocated(version: ModelVersion, members: list[Sample]) -> Run:
    return Run(version, members, version.plan.allocate(len(members), _length(members[0])))
