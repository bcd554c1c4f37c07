"""`heimdall dead`: what failed and why; let it be computed again after a fix, or drop it.

Exit codes: 0 done; 1 no such letter, or some were kept; 2 an argument is wrong, nothing was done; 3 the broker, Redis
or the registry does not answer.

This module is imported by every `heimdall` command, so what it needs of the worker is imported when a command runs.
"""

import asyncio
import logging
from collections.abc import Coroutine
from enum import IntEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import typer
from rich.console import Console

from worker.commands import dead_options as o

for _library in ("redis", "orjson"):
    if find_spec(_library) is None:
        raise ModuleNotFoundError(f"No module named {_library!r}", name=_library)

Answer = TypeVar("Answer")

app = typer.Typer(
    name="dead",
    help="Look at the jobs that failed; replay or drop them.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # A local may hold a password.
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done; 1 no such letter, or some were kept; 2 an argument is wrong, nothing was done; 3 the "
    "broker, Redis or the registry does not answer.",
)


class ExitCode(IntEnum):
    """What the shell learns."""

    DONE = 0
    NOT_ALL = 1
    USAGE = 2
    UNREACHABLE = 3


@app.command("list")
def list_(
    *,
    code: o.Codes = None,
    since: o.Since = None,
    limit: o.Most = o.DEFAULT_MOST,
    url: o.Url = o.DEFAULT_URL,
    json: o.AsJson = False,
) -> None:
    """List what failed, and why."""
    from worker.commands import dead_actions, dead_view  # noqa: PLC0415 - see above

    found = _run(dead_actions.find(url, o.selection(None, code, since), limit))
    if json:
        _print_json(found.document())
        return
    dead_view.show_list(found.letters, meant=found.meant, in_queue=found.in_queue, console=_console())


@app.command()
def show(
    job: o.Job,
    *,
    body: o.Body = None,
    url: o.Url = o.DEFAULT_URL,
    json: o.AsJson = False,
) -> None:
    """Show all that the dead letters of one job say."""
    from worker.commands import dead_actions, dead_view  # noqa: PLC0415 - see above

    letters = _run(dead_actions.find_bodies(url, job))
    if not letters:
        raise _leave(f"no dead letter of job {job}", ExitCode.NOT_ALL)
    if body is not None:
        _write(body, letters[-1][1])
    if body == "-":
        return
    if json:
        _print_json({"letters": [letter.document() for letter, _ in letters]})
        return
    for letter, _ in letters:
        dead_view.show_letter(letter, _console())


@app.command()
def replay(
    jobs: o.Jobs = None,
    *,
    code: o.Codes = None,
    since: o.Since = None,
    everything: o.All = False,
    limit: o.Most = o.DEFAULT_MOST,
    new_id: o.NewId = False,
    routing_key: o.RoutingKey = None,
    url: o.Url = o.DEFAULT_URL,
    redis_url: o.RedisUrl = o.DEFAULT_REDIS_URL,
    json: o.AsJson = False,
) -> None:
    """Publish jobs again, after a fix. Their stored errors are deleted; no result ever is."""
    from worker.commands import dead_actions, dead_view  # noqa: PLC0415 - see above

    selected = o.deliberate(o.selection(jobs, code, since), everything=everything)
    done = _run(dead_actions.replay(url, redis_url, selected, limit, new_id=new_id, routing_key=routing_key))
    if json:
        _print_json(dead_actions.replay_document(done))
    else:
        dead_view.show_replay(done, _console())
    raise typer.Exit(ExitCode.DONE if done and dead_actions.all_gone(done) else ExitCode.NOT_ALL)


@app.command()
def drop(
    jobs: o.Jobs = None,
    *,
    code: o.Codes = None,
    since: o.Since = None,
    everything: o.All = False,
    limit: o.Most = o.DEFAULT_MOST,
    yes: o.Yes = False,
    url: o.Url = o.DEFAULT_URL,
    json: o.AsJson = False,
) -> None:
    """Remove letters for good. Stored outcomes stay."""
    from worker.commands import dead_actions, dead_view  # noqa: PLC0415 - see above

    selected = o.deliberate(o.selection(jobs, code, since), everything=everything)

    def agree(found: dead_actions.Found) -> bool:
        if not json:
            dead_view.show_list(found.letters, meant=found.meant, in_queue=found.in_queue, console=_console())
        return yes or typer.confirm(f"Drop {len(found.letters)} dead letters for good?", err=json)

    dropped = _run(dead_actions.drop(url, selected, limit, agree))
    if json:
        _print_json({"dropped": [letter.document() for letter in dropped]})
    else:
        typer.echo(f"{len(dropped)} dropped")
    raise typer.Exit(ExitCode.DONE if dropped else ExitCode.NOT_ALL)


@app.command()
def explain(
    job: o.Job,
    *,
    version: o.TryVersion = None,
    timeout: o.TimeLimit = 60.0,
    url: o.Url = o.DEFAULT_URL,
    tracking_uri: o.TrackingUri = o.DEFAULT_TRACKING_URI,
    name: o.Name = o.DEFAULT_NAME,
    json: o.AsJson = False,
) -> None:
    """Compute a job again here, step by step, in a child process, and say where it fails."""
    from worker.commands import dead_actions, dead_explain  # noqa: PLC0415 - see above
    from worker.serving.registry import Registry  # noqa: PLC0415

    letters = _run(dead_actions.find_bodies(url, job))
    if not letters:
        raise _leave(f"no dead letter of job {job}", ExitCode.NOT_ALL)
    letter, body = letters[-1]
    explanation = dead_explain.explain(letter, body, Registry(tracking_uri, name), version, timeout)
    if json:
        _print_json(explanation.document())
    else:
        dead_explain.show(explanation, _console())
    raise typer.Exit(ExitCode.UNREACHABLE if explanation.version is None else ExitCode.DONE)


def _run(action: Coroutine[Any, Any, Answer]) -> Answer:
    from aio_pika.exceptions import AMQPError  # noqa: PLC0415 - see above

    from client.errors import BrokerUnreachable, CaptureError  # noqa: PLC0415
    from worker.errors import HeimdallError  # noqa: PLC0415

    for library in ("aio_pika", "aiormq"):
        logging.getLogger(library).addHandler(logging.NullHandler())
    try:
        return asyncio.run(action)
    except (CaptureError, ValueError) as error:
        raise _leave(str(error), ExitCode.USAGE) from None
    except (BrokerUnreachable, HeimdallError, AMQPError) as error:
        raise _leave(str(error), ExitCode.UNREACHABLE) from None


def _leave(message: str, code: ExitCode) -> typer.Exit:
    Console(stderr=True, markup=False, highlight=False).print(f"heimdall dead: {message}", soft_wrap=True)
    return typer.Exit(code)


def _console() -> Console:
    return Console(markup=False, highlight=False)


def _print_json(document: dict[str, Any]) -> None:
    import orjson  # noqa: PLC0415

    typer.echo(orjson.dumps(document, default=str).decode())


def _write(where: str, body: bytes) -> None:
    if where == "-":
        typer.echo(body, nl=False)
        return
    try:
        Path(where).write_bytes(body)
    except OSError as error:
        raise _leave(f"{where}: {error.strerror}", ExitCode.USAGE) from None


if __name__ == "__main__":
    app()
