import pytest
from pydantic import ValidationError

from schemas.problems import ERROR_TABLE, PROBLEM_TYPE_PREFIX, Disposition, ErrorCode, Problem

PROBLEM = {
    "type": PROBLEM_TYPE_PREFIX + "expired",
    "title": "t",
    "detail": "d",
    "code": "expired",
    "job_id": None,
    "retriable": True,
}


def test_every_code_has_its_row():
    """The table covers the codes, each once, under its own key."""
    assert set(ERROR_TABLE) == set(ErrorCode)
    assert all(row.code is code for code, row in ERROR_TABLE.items())


def test_only_an_expired_job_is_not_dead():
    """Expired jobs are answered and acknowledged; every other failure keeps a copy of the job."""
    answered = {code for code, row in ERROR_TABLE.items() if row.disposition is Disposition.ANSWERED}
    assert answered == {ErrorCode.EXPIRED}


def test_what_may_succeed_later():
    """A later deadline, or a store that answers again; everything else stays as it is."""
    retriable = {code for code, row in ERROR_TABLE.items() if row.retriable}
    assert retriable == {ErrorCode.EXPIRED, ErrorCode.CLAIM_UNAVAILABLE}


def test_every_row_says_what_to_do():
    """A reader finds title and remedy for each code."""
    assert all(row.title and row.remedy.endswith((".", ":")) for row in ERROR_TABLE.values())


def test_a_problem_reads_back():
    """Problem details validate as they are written."""
    assert Problem.model_validate(PROBLEM).model_dump(exclude_none=True) | {"job_id": None} == PROBLEM


@pytest.mark.parametrize(
    "changes", [{"type": "about:blank"}, {"code": "no_such_code"}, {"sample": -1}, {"retriable": None}]
)
def test_a_wrong_problem_does_not_validate(changes):
    """Foreign types, unknown codes and impossible samples are no problem of ours."""
    with pytest.raises(ValidationError):
        Problem.model_validate(PROBLEM | changes)
