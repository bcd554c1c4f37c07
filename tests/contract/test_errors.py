"""Codes, their rows and the worker's exceptions are one and the same list."""

from schemas.problems import ERROR_TABLE, PROBLEM_TYPE_PREFIX, ErrorCode, Problem
from tests.contract.examples import ROOT
from worker.errors import JobError


def job_errors() -> list[type[JobError]]:
    """Every subclass, however deep."""
    found, open_ = [], [JobError]
    while open_:
        below = open_.pop().__subclasses__()
        found += below
        open_ += below
    return found


def test_every_code_has_a_row_and_every_row_is_complete() -> None:
    """No code lacks a title or a remedy."""
    assert set(ERROR_TABLE) == set(ErrorCode)
    for code, row in ERROR_TABLE.items():
        assert row.code is code
        assert row.title
        assert row.remedy.endswith(".")


def test_every_job_error_has_a_code_of_its_own_and_every_code_an_exception() -> None:
    """Exceptions and rows match one to one."""
    codes = [error.code for error in job_errors()]
    assert sorted(codes) == sorted(ErrorCode)


def test_what_an_exception_says_is_a_problem_of_the_wire() -> None:
    """The hand-made body validates, with the documented URN as its type."""
    for error in job_errors():
        problem = Problem.model_validate(error("why").problem("job-1"))
        assert problem.type == PROBLEM_TYPE_PREFIX + problem.code
        assert problem.title == ERROR_TABLE[problem.code].title


def test_the_page_has_a_row_for_every_code() -> None:
    """docs/errors.md leaves none out."""
    page = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
    assert all(f"| `{code}` | {row.title} |" in page for code, row in ERROR_TABLE.items())
