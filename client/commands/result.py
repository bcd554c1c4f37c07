"""`heimdall result JOB…`: look up what became of jobs.

Results go to standard output, everything else to standard error. Exit codes: 0 all located; 1 a job ended with an
error; 2 wrong input; 3 no outcome is stored, or Redis does not answer.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

import orjson
import typer
from rich.console import Console

from client.commands import parameters as p
from client.commands.exits import ExitCode, told
from client.commands.messages import shown, stderr
from client.errors import CaptureError, LocalizationError
from client.outcomes import Outcome, Outcomes
from client.report import describe_answer, describe_error, merged_geojson
from schemas.problems import Problem

DEFAULT_REDIS: Final = "redis://localhost:6379/0"
_AT_ONCE: Final = 50
"""Jobs that are looked up: each has a connection, of which the library opens a hundred at most."""


def result(
    jobs: p.Jobs,
    *,
    redis: p.RedisUrl = DEFAULT_REDIS,
    wait: p.Wait = 0.0,
    geojson: p.AsGeojson = False,
    json: p.AsJson = False,
) -> None:
    """Look up the outcomes of jobs."""
    messages = stderr()
    with told(messages), shown(messages):
        if geojson and json:
            raise CaptureError("--geojson and --json: choose one")
        found = asyncio.run(_look_up(redis, jobs, wait))
    _print(jobs, found, messages, geojson=geojson, json=json)
    raise typer.Exit(max(map(_exit_code, found)))


async def _look_up(url: str, jobs: Sequence[str], wait_s: float) -> list[Outcome | None]:
    places = asyncio.Semaphore(_AT_ONCE)

    async def get(job: str) -> Outcome | None:
        async with places:
            return await outcomes.get(job, wait_s=wait_s)

    async with Outcomes(url) as outcomes:
        return await asyncio.gather(*map(get, jobs))


def _print(
    jobs: Sequence[str], found: Sequence[Outcome | None], messages: Console, *, geojson: bool, json: bool
) -> None:
    results = Console(markup=False, highlight=False)
    answers = [one for one in found if one is not None and not isinstance(one, Problem)]
    if geojson and answers:
        typer.echo(orjson.dumps(merged_geojson(answers)))
    for job, outcome in zip(jobs, found, strict=True):
        if outcome is None:
            messages.print(f"{job}: no outcome is stored: not yet (--wait), no more, or no such job", soft_wrap=True)
            continue
        if isinstance(outcome, Problem):
            messages.print(describe_error(job, LocalizationError(outcome)), soft_wrap=True)
        if json:
            typer.echo(outcome.model_dump_json())
        elif not geojson and not isinstance(outcome, Problem):
            results.print(describe_answer(job, outcome))


def _exit_code(outcome: Outcome | None) -> ExitCode:
    if outcome is None:
        return ExitCode.NO_ANSWER
    return ExitCode.ERROR_ANSWER if isinstance(outcome, Problem) else ExitCode.LOCATED
