"""Errors as they travel: RFC 9457 problem details with a stable code, and the table of all codes.

The table is data. The documentation (docs/errors.md) is generated from it, the worker's exceptions point into it.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

PROBLEM_TYPE_PREFIX: Final = "urn:heimdall:problem:"


class ErrorCode(StrEnum):
    """Why a job has no position; stable across releases."""

    MALFORMED_ENVELOPE = "malformed_envelope"
    MALFORMED_METADATA = "malformed_metadata"
    MALFORMED_IQ = "malformed_iq"
    NON_FINITE_IQ = "non_finite_iq"
    TOO_FEW_SAMPLES = "too_few_samples"
    TOO_LARGE = "too_large"
    UNSUPPORTED_DATATYPE = "unsupported_datatype"
    SAMPLE_RATE_MISMATCH = "sample_rate_mismatch"
    RECEIVER_MISMATCH = "receiver_mismatch"
    JOB_ID_CONFLICT = "job_id_conflict"
    CLAIM_REFUSED = "claim_refused"
    CLAIM_MISSING = "claim_missing"
    CLAIM_MISMATCH = "claim_mismatch"
    CLAIM_UNAVAILABLE = "claim_unavailable"
    EXPIRED = "expired"
    CRASHES_WORKER = "crashes_worker"
    INFERENCE_FAILED = "inference_failed"
    INTERNAL = "internal"


class Disposition(StrEnum):
    """What becomes of the message once its error is stored and answered."""

    DEAD = "dead"
    """A copy goes to `heimdall.dead`, then the job is acknowledged."""
    ANSWERED = "answered"
    """The job is acknowledged; the reply and the store are its only trace."""


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """One row of the error table."""

    code: ErrorCode
    title: str
    disposition: Disposition
    retriable: bool
    """The same input may succeed later, under a new id: the outcome of an id stands."""
    remedy: str


def _row(
    code: ErrorCode, title: str, remedy: str, *, retriable: bool = False, disposition: Disposition = Disposition.DEAD
) -> ErrorRow:
    return ErrorRow(code, title, disposition, retriable, remedy)


ERROR_TABLE: Final[dict[ErrorCode, ErrorRow]] = {
    row.code: row
    for row in (
        _row(
            ErrorCode.MALFORMED_ENVELOPE,
            "The message properties or headers are not valid",
            "Set message_id (1-128 of A-Z a-z 0-9 . _ -), a content_type of the wire contract and valid headers.",
        ),
        _row(
            ErrorCode.MALFORMED_METADATA,
            "The SigMF metadata or the JSON body does not validate",
            "Correct the field that `errors` names; see schemas/heimdall.sigmf-ext.md.",
        ),
        _row(
            ErrorCode.MALFORMED_IQ,
            "The IQ body does not fit its metadata",
            "Send exactly channels x samples x bytes per sample, interleaved as SigMF says.",
        ),
        _row(
            ErrorCode.NON_FINITE_IQ,
            "The IQ holds NaN or infinity",
            "Check the recording chain; a floating-point datatype must hold finite values only.",
        ),
        _row(
            ErrorCode.TOO_FEW_SAMPLES,
            "The recording is shorter than the model needs",
            "Record longer: `detail` names the least number of samples per receiver.",
        ),
        _row(
            ErrorCode.TOO_LARGE,
            "The body, the metadata or the number of samples is over its limit",
            "Send a shorter part, or fewer receivers; JSON bodies are for small trials, SigMF bodies for the rest.",
        ),
        _row(
            ErrorCode.UNSUPPORTED_DATATYPE,
            "The datatype is real-valued or unknown",
            "Send complex samples: cf32, cf64, ci32, ci16, ci8, cu32, cu16 or cu8, with _le or _be.",
        ),
        _row(
            ErrorCode.SAMPLE_RATE_MISMATCH,
            "The sample rate is not the model's",
            "Resample: `errors` names the rate the model takes. The worker never resamples.",
        ),
        _row(
            ErrorCode.RECEIVER_MISMATCH,
            "The receivers are not those the model takes",
            "Check the ids, positions (longitude comes first) and number of receivers against the model's contract.",
        ),
        _row(
            ErrorCode.JOB_ID_CONFLICT,
            "The job id was used before for other input",
            "Use a new message_id for each job; repeat an id only with the same body, as the same user.",
        ),
        _row(
            ErrorCode.CLAIM_REFUSED,
            "The reference leads where this worker does not look",
            "Put the dataset under a prefix of the worker's HEIMDALL_CLAIM_SOURCES, by a plain path without links.",
        ),
        _row(
            ErrorCode.CLAIM_MISSING,
            "The referenced dataset is not there, or may not be read",
            "Store it before publishing, keep it until the outcome is there, and let the workers read it.",
        ),
        _row(
            ErrorCode.CLAIM_MISMATCH,
            "The referenced dataset is not the one that was claimed",
            "State size and SHA-256 of the stored bytes, and never write to a stored dataset again.",
        ),
        _row(
            ErrorCode.CLAIM_UNAVAILABLE,
            "The store of the referenced dataset did not answer in time",
            "Look at the store and at the worker's way to it, then replay the dead letter.",
            retriable=True,
        ),
        _row(
            ErrorCode.EXPIRED,
            "The deadline passed before the job was computed",
            "Publish again under a new message_id with a later deadline_ms, or add workers.",
            retriable=True,
            disposition=Disposition.ANSWERED,
        ),
        _row(
            ErrorCode.CRASHES_WORKER,
            "The worker process died each time while it worked on this job alone",
            "Keep the dead letter and report it together with the model version.",
        ),
        _row(
            ErrorCode.INFERENCE_FAILED,
            "The model failed on this input, or answered with an invalid position",
            "Check the input; if it is sound, the model needs attention: see the dead letter's model version.",
        ),
        _row(
            ErrorCode.INTERNAL,
            "The worker failed in an unexpected way on this job",
            "Report it with the job id: the worker's log has the traceback. Replay the dead letter after a fix.",
        ),
    )
}


class ProblemError(BaseModel):
    """One particular of a problem: where it is, what is wrong, and what would be right."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    detail: str
    pointer: str | None = Field(None, description="Where in the input: a path such as `global/core:datatype`.")
    expected: float | int | str | None = Field(None, description="What would be right, in machine-readable form.")


class Problem(BaseModel):
    """RFC 9457 problem details of a job, or of one sample of a batch job."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    type: Annotated[str, Field(pattern=rf"^{PROBLEM_TYPE_PREFIX}[a-z_]+$")]
    title: str
    detail: str
    code: ErrorCode
    job_id: str | None
    session_id: str | None = Field(None, description="The job's session; null where it has none or was not readable.")
    retriable: bool
    errors: list[ProblemError] | None = None
    sample: int | None = Field(None, description="Index of the sample within a batch job.", ge=0)
    input_digest: str | None = Field(None, description="Digest of publisher and input; see the stored outcome.")
