"""What comes back from the worker."""

import orjson
import pytest

from client.errors import BadReply, LocalizationError
from client.replies import model_rate, read_reply
from schemas.job import JSON_CONTENT_TYPE, PROBLEM_CONTENT_TYPE
from schemas.problems import ErrorCode, ProblemError
from tests.unit.client.fakes import batch_result, problem, rate_mismatch, result


def test_results_single_and_batch() -> None:
    """The job decides which of the two is read."""
    single, batch = result("j"), batch_result("j", 2)
    assert read_reply("j", JSON_CONTENT_TYPE, single.model_dump_json().encode(), batch=False) == single
    assert read_reply("j", JSON_CONTENT_TYPE, batch.model_dump_json().encode(), batch=True) == batch


def test_newer_workers_are_understood() -> None:
    """A field that this client does not know is no reason to lose the position."""
    document = {**result("j").model_dump(mode="json"), "new_in_2": 1}
    assert read_reply("j", JSON_CONTENT_TYPE, orjson.dumps(document), batch=False) == result("j")


def test_problem_is_raised() -> None:
    """The content type tells a problem from a result."""
    body = problem("j", ErrorCode.TOO_LARGE).model_dump_json().encode()
    with pytest.raises(LocalizationError) as caught:
        read_reply("j", PROBLEM_CONTENT_TYPE, body, batch=False)
    assert caught.value.code is ErrorCode.TOO_LARGE
    assert not caught.value.retriable


@pytest.mark.parametrize(
    ("content_type", "body", "message"),
    [
        ("text/plain", b"{}", "content type 'text/plain'"),
        (None, b"{}", "content type None"),
        (JSON_CONTENT_TYPE, b"{}", "no LocalizationResult: .*: Field required"),
        (JSON_CONTENT_TYPE, b"\xff", "no LocalizationResult"),
        (PROBLEM_CONTENT_TYPE, b"{}", "no Problem"),
        (JSON_CONTENT_TYPE, result("other").model_dump_json().encode(), "speaks of job other"),
    ],
)
def test_anything_else_is_a_bad_reply(content_type: str | None, body: bytes, message: str) -> None:
    """What is no answer of this wire is never passed off as one."""
    with pytest.raises(BadReply, match=message):
        read_reply("j", content_type, body, batch=False)


@pytest.mark.parametrize(
    ("errors", "rate"),
    [
        (None, None),
        ([ProblemError(detail="x", pointer="global/core:sample_rate", expected="fast")], None),
        ([ProblemError(detail="x", pointer="global/core:sample_rate", expected=0)], None),
        ([ProblemError(detail="x", pointer="elsewhere", expected=48000)], None),
        ([ProblemError(detail="x"), *(rate_mismatch("j", 48000.5).errors or [])], 48000.5),
    ],
)
def test_model_rate_is_taken_only_where_it_is_said(errors: list[ProblemError] | None, rate: float | None) -> None:
    """Only a positive number at the rate's pointer is a rate."""
    assert model_rate(problem("j", ErrorCode.SAMPLE_RATE_MISMATCH, errors)) == rate
