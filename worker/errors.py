"""What can go wrong, as exceptions. Each class of `JobError` carries the wire code of its row in the error table.

`JobError` ends one job (or one sample) with an answer. `Unavailable` ends nothing: the job is kept or redelivered.
`ModelRejected` keeps a model version from serving and leaves the one before in place.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Self

from schemas.problems import ERROR_TABLE, PROBLEM_TYPE_PREFIX, ErrorCode, ErrorRow, ProblemError


class HeimdallError(Exception):
    """Root of every error the worker raises on purpose."""


class JobError(HeimdallError):
    """A job that cannot have a position; answered, stored, and dead-lettered as its row says.

    Args:
        detail: what was wrong, where, and what would be right; shown to the publisher.
        errors: particulars, for programs.
    """

    code: ClassVar[ErrorCode] = ErrorCode.INTERNAL

    def __init__(self, detail: str, errors: Sequence[ProblemError] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = tuple(errors)

    def as_value(self) -> Self:
        """The error without where it came from, for a job to keep.

        The frames of its traceback hold the job and the whole micro-batch: in a circle with them, all their bodies
        would stay until the garbage collector comes by.
        """
        self.__traceback__ = self.__cause__ = self.__context__ = None
        return self

    @property
    def row(self) -> ErrorRow:
        """The row of the error table: title, disposition, retriable, remedy."""
        return ERROR_TABLE[self.code]

    def problem(self, job_id: str | None) -> dict[str, Any]:
        """RFC 9457 problem details, as `schemas.problems.Problem` describes them."""
        problem: dict[str, Any] = {
            "type": PROBLEM_TYPE_PREFIX + self.code,
            "title": self.row.title,
            "detail": self.detail,
            "code": str(self.code),
            "job_id": job_id,
            "retriable": self.row.retriable,
        }
        if self.errors:
            problem["errors"] = [error.model_dump() for error in self.errors]
        return problem


class MalformedEnvelope(JobError):
    """Message properties or headers are not valid."""

    code = ErrorCode.MALFORMED_ENVELOPE


class MalformedMetadata(JobError):
    """SigMF metadata or the JSON body does not validate."""

    code = ErrorCode.MALFORMED_METADATA


class MalformedIq(JobError):
    """The body's length does not fit its metadata."""

    code = ErrorCode.MALFORMED_IQ


class NonFiniteIq(JobError):
    """The IQ holds NaN or infinity."""

    code = ErrorCode.NON_FINITE_IQ


class TooFewSamples(JobError):
    """The recording is shorter than the model needs."""

    code = ErrorCode.TOO_FEW_SAMPLES


class TooLarge(JobError):
    """Body, metadata or number of samples is over its limit."""

    code = ErrorCode.TOO_LARGE


class UnsupportedDatatype(JobError):
    """The datatype is real-valued or unknown."""

    code = ErrorCode.UNSUPPORTED_DATATYPE


class SampleRateMismatch(JobError):
    """The sample rate is more than 0.1 % off the model's."""

    code = ErrorCode.SAMPLE_RATE_MISMATCH


class ReceiverMismatch(JobError):
    """The receivers are not those the model takes."""

    code = ErrorCode.RECEIVER_MISMATCH


class JobIdConflict(JobError):
    """The id was used before for other input or by another user."""

    code = ErrorCode.JOB_ID_CONFLICT


class ClaimRefused(JobError):
    """The reference leads where the operator does not allow."""

    code = ErrorCode.CLAIM_REFUSED


class ClaimMissing(JobError):
    """There is nothing where the reference leads, or nothing that may be read."""

    code = ErrorCode.CLAIM_MISSING


class ClaimMismatch(JobError):
    """What was fetched is not what was claimed: another size, or another digest."""

    code = ErrorCode.CLAIM_MISMATCH


class ClaimUnavailable(JobError):
    """The store of the referenced dataset did not answer in time."""

    code = ErrorCode.CLAIM_UNAVAILABLE


class Expired(JobError):
    """The deadline passed before the job was computed."""

    code = ErrorCode.EXPIRED


class CrashesWorker(JobError):
    """The process died each time while this job alone was being worked on."""

    code = ErrorCode.CRASHES_WORKER


class InferenceFailed(JobError):
    """The model failed on this item, or its answer is no valid position."""

    code = ErrorCode.INFERENCE_FAILED


class InternalError(JobError):
    """A bug; the traceback is in the log."""

    code = ErrorCode.INTERNAL


class SettingRefused(HeimdallError):
    """A setting that does not fit the place where the worker runs; the message names its variable."""


class Unavailable(HeimdallError):
    """A dependency is away. Nothing is answered: the job is kept, or goes back to the queue."""


class ModelRejected(HeimdallError):
    """A model version that may not serve; `reason` is what the operator is told."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
