"""What may be asked of a job beside its capture."""

from collections.abc import Sequence
from typing import Final, TypedDict

from client.claim_store import ClaimStore

DEFAULT_TIMEOUT_S: Final = 10.0
DEFAULT_PATIENCE_S: Final = 60.0
DEFAULT_OUTSTANDING: Final = 64


class JobOptions(TypedDict, total=False):
    """What may be asked of a job.

    Attributes:
        job_id: 1-128 of `[A-Za-z0-9._-]`; default: a new one. The same id with the same capture asks for the stored
            outcome of before.
        session_id: groups the fixes of one source.
        confidence: of the ellipses, one or several in (0, 0.999]; default: 0.68 and 0.95.
        timeout: seconds until `LocalizationTimeout`, repeats and reconnects included; default 10.
        attempt_timeout: seconds without an answer after which the same job is published again; default: 0.6 of the
            timeout. A repeat is answered from the store and costs no second inference.
        expire: whether the worker may drop the job once the timeout has passed; default true.
        resample: whether to resample to the model's rate and ask once more, as a new job, where the worker answers
            `sample_rate_mismatch`; default false.
        cache_enabled: whether a cached model output will do; default true.
        continue_on_error: of a batch job: whether the other samples count when one fails; default true.
    """

    job_id: str | None
    session_id: str | None
    confidence: float | Sequence[float] | None
    timeout: float
    attempt_timeout: float | None
    expire: bool
    resample: bool
    cache_enabled: bool
    continue_on_error: bool


class PublishOptions(TypedDict, total=False):
    """What may be asked of a job whose answer somebody else takes.

    Attributes:
        session_id: groups the fixes of one source.
        confidence: of the ellipses, one or several in (0, 0.999]; default: 0.68 and 0.95.
        deadline_ms: Unix milliseconds after which nobody needs the answer; default: none.
        patience_s: how long the broker may refuse the job, or be away, before it is given up; default 60.
        store: where a body goes that is too large for a message; default: nowhere, it is refused.
        cache_enabled: whether a cached model output will do; default true.
        continue_on_error: of a batch job: whether the other samples count when one fails; default true.
    """

    session_id: str | None
    confidence: float | Sequence[float] | None
    deadline_ms: int | None
    patience_s: float
    store: ClaimStore | None
    cache_enabled: bool
    continue_on_error: bool
