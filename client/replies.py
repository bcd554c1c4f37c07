"""Reading what the worker answers."""

from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from client.errors import BadReply, LocalizationError
from schemas.job import JSON_CONTENT_TYPE, PROBLEM_CONTENT_TYPE
from schemas.problems import Problem
from schemas.result import BatchResult, LocalizationResult

Model = TypeVar("Model", bound=BaseModel)
Answer = LocalizationResult | BatchResult

RATE_POINTER: Final = "global/core:sample_rate"


def read_reply(job_id: str, content_type: str | None, body: bytes, *, batch: bool) -> Answer:
    """Read a reply.

    Args:
        job_id: of the job that was asked.
        content_type: of the reply.
        body: of the reply.
        batch: whether the job was a batch job.

    Raises:
        LocalizationError: the answer is a problem.
        BadReply: it is no answer of this wire.
    """
    if content_type == PROBLEM_CONTENT_TYPE:
        raise LocalizationError(_validate(Problem, job_id, body))
    if content_type != JSON_CONTENT_TYPE:
        raise BadReply(f"the reply to job {job_id} has the content type {content_type!r}, not {JSON_CONTENT_TYPE}")
    answer = _validate(BatchResult, job_id, body) if batch else _validate(LocalizationResult, job_id, body)
    if answer.job_id != job_id:
        raise BadReply(f"the reply to job {job_id} speaks of job {answer.job_id}")
    return answer


def model_rate(problem: Problem) -> float | None:
    """The sample rate in hertz that a `sample_rate_mismatch` says the model takes; None where it does not say."""
    for error in problem.errors or ():
        if error.pointer == RATE_POINTER and isinstance(error.expected, float | int) and error.expected > 0:
            return float(error.expected)
    return None


def _validate(model: type[Model], job_id: str, body: bytes) -> Model:
    try:
        # A newer worker may say more than this client knows; that is no reason to lose its answer.
        return model.model_validate_json(body, extra="ignore")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = "/".join(map(str, first["loc"]))
        raise BadReply(f"the reply to job {job_id} is no {model.__name__}: {where}: {first['msg']}") from error
