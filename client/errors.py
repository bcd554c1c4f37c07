"""Everything the client raises; all of it is a `HeimdallError`."""

from schemas.problems import ERROR_TABLE, ErrorCode, Problem


class HeimdallError(Exception):
    """Base of what the client raises."""


class CaptureError(HeimdallError, ValueError):
    """What was to be sent cannot be sent: a file, a sample array or an option is wrong. Nothing was published."""


class BrokerUnreachable(HeimdallError, ConnectionError):
    """No connection to RabbitMQ within the time allowed, or the broker refused the login.

    Attributes:
        final: trying again will not help: the login is refused.
    """

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final


class PublishRefused(HeimdallError):
    """The broker did not take the job, so no worker has it; publishing again is safe.

    Attributes:
        job_id: of the refused job.
        retriable: whether the same publish may succeed later without anybody changing the broker (a full queue).
    """

    def __init__(self, job_id: str, reason: str, *, retriable: bool = False) -> None:
        super().__init__(f"the broker did not take job {job_id}: {reason}")
        self.job_id = job_id
        self.retriable = retriable


class LocalizationTimeout(HeimdallError, TimeoutError):
    """No answer within the timeout.

    The job may still be computed: the same `job_id` with the same capture asks for its stored outcome.

    Attributes:
        job_id: of the unanswered job.
    """

    def __init__(self, job_id: str, detail: str) -> None:
        super().__init__(f"no answer to job {job_id}: {detail}")
        self.job_id = job_id


class LocalizationError(HeimdallError):
    """The worker answered that the job has no position, and why.

    Attributes:
        problem: the answer as it came.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.title}: {problem.detail}")
        self.problem = problem

    @property
    def code(self) -> ErrorCode:
        """The stable code; branch on this, never on the text."""
        return self.problem.code

    @property
    def retriable(self) -> bool:
        """Whether the same job may succeed later."""
        return self.problem.retriable

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return ERROR_TABLE[self.problem.code].remedy


class BadReply(HeimdallError):
    """The reply is neither a result nor a problem of this wire: client and worker do not fit, or it is no worker."""
