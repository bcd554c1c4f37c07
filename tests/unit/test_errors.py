import pytest

from schemas.problems import ERROR_TABLE, ErrorCode, Problem, ProblemError
from worker import errors
from worker.errors import HeimdallError, InternalError, JobError, ModelRejected, Unavailable

JOB_ERRORS = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, JobError)]


def test_every_code_has_its_exception():
    """Each row of the table is raised by exactly one class; the base class alone shares its code."""
    codes = [error.code for error in JOB_ERRORS if error is not JobError]
    assert sorted(codes) == sorted(ErrorCode)


@pytest.mark.parametrize("error", JOB_ERRORS)
@pytest.mark.parametrize("job_id", ["job-1", None])
def test_a_problem_is_as_the_wire_describes_it(error, job_id):
    """Every error gives problem details that validate, with its row's title."""
    particular = ProblemError(detail="d", pointer="global/core:sample_rate", expected=48_000.0)
    written = error("what was wrong", [particular]).problem(job_id)
    problem = Problem.model_validate(written)
    assert (problem.code, problem.detail, problem.job_id) == (error.code, "what was wrong", job_id)
    assert problem.type == f"urn:heimdall:problem:{error.code}"
    assert problem.title == ERROR_TABLE[error.code].title
    assert problem.retriable is ERROR_TABLE[error.code].retriable
    assert problem.errors == [particular]


def test_a_problem_without_particulars_has_no_list_of_them():
    """An empty list says nothing, so it is left out."""
    assert "errors" not in InternalError("x").problem("j")


def test_only_job_errors_are_answers():
    """A dependency that is away, and a model that may not serve, end no job."""
    for error in (Unavailable("x"), ModelRejected("x")):
        assert isinstance(error, HeimdallError)
        assert not isinstance(error, JobError)
    assert ModelRejected("golden[0]").reason == str(ModelRejected("golden[0]")) == "golden[0]"
    assert str(InternalError("x")) == "x"
