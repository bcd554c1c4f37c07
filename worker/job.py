"""A job on its way through a micro-batch: what was read, what was computed, what is answered."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from weakref import ref

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from schemas.job import JSON_CONTENT_TYPE, PROBLEM_CONTENT_TYPE
from worker.amqp.delivery import Delivery
from worker.errors import InferenceFailed, JobError
from worker.input_digest import input_digest
from worker.recording import Recording
from worker.serving.model import ModelVersion
from worker.serving.outputs import Fix
from worker.serving.seating import Seats


@dataclass(eq=False, slots=True)
class Sample:
    """One sample of a job.

    Attributes:
        owner: the job. It is not kept: in a circle with its samples it would stay, with its body, until the garbage
            collector comes by.
        index: within the job.
        seats: of its receivers, once they are given.
        front_key, row_key: in the cache; None where it is not used.
        row: of the model's raw outputs, once computed or found.
        cache_hit: the row was found.
        fix: read from the row, once it is valid.
        error: why it has no position, or None.
    """

    owner: "ref[Job]"
    index: int
    seats: Seats | None = None
    clipped: bool = False
    front_key: bytes | None = None
    row_key: bytes | None = None
    row: dict[str, NDArray[np.generic]] | None = None
    cache_hit: bool = False
    fix: Fix | None = None
    error: JobError | None = None

    @property
    def job(self) -> "Job":
        """The owner, which whoever holds samples must hold, too."""
        job = self.owner()
        assert job is not None
        return job


@dataclass(slots=True)
class Outcome:
    """What a job ends with.

    Attributes:
        body: JSON, as stored and sent.
        error: the error's code, or None for a result.
        fresh: computed here and now, not found in the store.
        storable: false for what must never take the place of a stored outcome.
    """

    body: bytes
    error: str | None
    fresh: bool = True
    storable: bool = True
    reason: str = ""

    @property
    def content_type(self) -> str:
        """Of the reply."""
        return PROBLEM_CONTENT_TYPE if self.error else JSON_CONTENT_TYPE


@dataclass(slots=True)
class Timings:
    """Seconds, of the micro-batch steps that a job went through."""

    queue: float = 0.0
    decode: float = 0.0
    features: float = 0.0
    inference: float = 0.0
    geometry: float = 0.0

    def by_stage(self) -> tuple[tuple[str, float], ...]:
        """Name and seconds of each."""
        return (
            ("queue", self.queue),
            ("decode", self.decode),
            ("features", self.features),
            ("inference", self.inference),
            ("geometry", self.geometry),
        )


@dataclass(eq=False, slots=True, weakref_slot=True)
class Job:
    """A job from delivery to settlement.

    Attributes:
        body_digest: BLAKE3 of the body.
        input_digest: of publisher, content type, metadata and body, as outcomes carry it.
        recording: once read.
        version: the model version that serves it, once chosen.
        error: why the whole job has no result, or None.
        outcome: once there is one.
        mates: ids of the jobs of its micro-batch.
    """

    delivery: Delivery
    body_digest: bytes = b""
    input_digest: str = ""
    recording: Recording | None = None
    version: ModelVersion | None = None
    samples: list[Sample] = field(default_factory=list)
    error: JobError | None = None
    outcome: Outcome | None = None
    mates: tuple[str, ...] = ()
    timings: Timings = field(default_factory=Timings)

    @property
    def model_failures(self) -> int:
        """On how many of its samples the model failed."""
        return sum(isinstance(sample.error, InferenceFailed) for sample in self.samples)

    @property
    def job_id(self) -> str | None:
        """None where the message has no valid one."""
        return self.delivery.job_id

    @property
    def session_id(self) -> str | None:
        """From the header, else from the JSON body."""
        return self.delivery.headers.session_id or (self.recording.session_id if self.recording else None)

    @property
    def capture_time(self) -> str | None:
        """From the capture, else from the header."""
        return (self.recording.capture_time if self.recording else None) or self.delivery.headers.capture_time

    @property
    def cache_enabled(self) -> bool:
        """Whether the job allows the cache."""
        in_body = self.recording.cache_enabled if self.recording else None
        return self.delivery.headers.cache_enabled if in_body is None else in_body

    def digest_input(self) -> None:
        """Compute both digests; the body is read once."""
        delivery = self.delivery
        self.body_digest = delivery.claimed_digest or blake3(delivery.body).digest()
        self.input_digest = input_digest(delivery.user_id, delivery.content_type, delivery.sigmf, self.body_digest)


def suspect_ids(jobs: Iterable[Job]) -> list[str]:
    """Ids of those that ran alone because a worker may have died of them."""
    return [job.job_id for job in jobs if job.job_id and job.delivery.suspect]
