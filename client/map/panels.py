"""What stands beside the map, as rows and lines; no page is needed to make them."""

from typing import Any, Final

from client.map.hearing import Heard
from client.map.state import Failure, LiveState
from client.map.workers import ASK_EVERY_S, Workers
from client.report import format_age
from schemas.problems import ERROR_TABLE, Problem

_SHOWN: Final = 50
_MS_PER_S: Final = 1000.0

Row = dict[str, Any]


def status(heard: Heard, now_s: float) -> tuple[str, bool]:
    """One line on the connection and what comes over it, and whether all is well."""
    if heard.trouble is not None:
        return heard.trouble, False
    state = heard.state
    figures = f"results {state.results} ({state.per_second(now_s):.1f} per second), errors {state.failed}"
    return f"{heard.broker}: {figures}", True


def worker_note(workers: Workers) -> str:
    """Why there is no row of a worker; empty where there is one."""
    if workers.refusal is not None:
        return f"Workers are known by their results only: {workers.refusal}"
    return "" if workers.seen else "No worker has answered yet"


def worker_rows(workers: Workers, now_s: float) -> list[Row]:
    """A row per worker that answered."""
    return [
        {
            "id": name,
            "worker": name,
            "state": f"silent (was {seen.reply.state})" if seen.silent(now_s) else seen.reply.state,
            "serves": ", ".join(f"{one.alias} {one.version}" for one in seen.reply.serving) or "nothing",
            "heard": _ago(now_s - seen.heard_s, step_s=1.5 * ASK_EVERY_S),
        }
        for name, seen in sorted(workers.seen.items())
    ]


def model_rows(state: LiveState, now_s: float) -> list[Row]:
    """A row per model version that answered, the latest first."""
    return [
        {
            "id": "/".join(key),
            "model": f"{seen.model.name} version {seen.model.version} ({seen.model.alias})",
            "results": seen.results,
            "last": _ago(now_s - seen.seen_s),
        }
        for key, seen in reversed(state.models.items())
    ]


def session_rows(state: LiveState, now_s: float) -> list[Row]:
    """A row per session, by name, so that rows stay where they are."""
    ordered = sorted(state.sessions.items(), key=lambda item: item[0] or "")
    return [
        {
            "id": name or "",
            "session": name or "(no session)",
            "colour": session.colour,
            "fixes": session.total,
            "last": _ago(now_s - session.seen_s),
        }
        for name, session in ordered
    ]


def error_rows(state: LiveState, now_s: float) -> list[Row]:
    """The last errors, the latest first."""
    return [_error_row(failure, now_s) for failure in list(reversed(state.failures))[:_SHOWN]]


def problem_lines(problem: Problem) -> list[str]:
    """All of a problem, and what to do about it."""
    lines = [f"{_job(problem)}: {problem.title} ({problem.code})", problem.detail]
    particulars = [error for error in problem.errors or () if error.detail != problem.detail]
    lines += [f"{error.pointer}: {error.detail}" if error.pointer else error.detail for error in particulars]
    return [*lines, f"What to do: {ERROR_TABLE[problem.code].remedy}"]


def _error_row(failure: Failure, now_s: float) -> Row:
    problem = failure.problem
    return {
        "id": failure.number,
        "job": _job(problem),
        "error": f"{problem.code}: {problem.detail}",
        "last": _ago(now_s - failure.heard_s),
    }


def _job(problem: Problem) -> str:
    job = problem.job_id or "a job without an id"
    return job if problem.sample is None else f"{job}/{problem.sample}"


def _ago(seconds: float, step_s: float = 5.0) -> str:
    """How long ago, in steps: a row that changes each second would be sent each second."""
    return "now" if seconds < step_s else format_age(_MS_PER_S * step_s * (seconds // step_s)).replace(".0 ", " ")
