"""`heimdall top`: queues and workers at a glance.

Exit codes: 0 all asked; 1 with --once: no worker answers, or something could not be asked; 2 an argument is wrong; 3
the broker does not answer.

This module is imported by every `heimdall` command, so what it needs of the worker is imported when the command runs.
"""

import asyncio
import logging
from contextlib import suppress
from enum import IntEnum
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console

from client.commands.parameters import DEFAULT_URL, Url

if TYPE_CHECKING:
    from worker.commands.top_sources import Sources, View

for _library in ("aiohttp", "prometheus_client"):
    if find_spec(_library) is None:
        raise ModuleNotFoundError(f"No module named {_library!r}", name=_library)

_DEFAULT_QUEUE: Final = "heimdall.inference"

Workers = Annotated[
    list[str] | None,
    typer.Option("--worker", metavar="URL", help="Of a worker's HTTP server; repeatable."),
]
Management = Annotated[
    str | None,
    typer.Option("--management-url", metavar="URL", help="Of RabbitMQ's HTTP API, http://user:password@host:15672."),
]
Queue = Annotated[str, typer.Option("--queue", envvar="HEIMDALL_QUEUE", help="Of the jobs.")]
Interval = Annotated[float, typer.Option("--interval", min=0.2, help="Seconds between two looks.")]
Once = Annotated[bool, typer.Option("--once", help="Print one view, of one interval, and leave.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print each view as a line of JSON.")]

app = typer.Typer(name="top", pretty_exceptions_show_locals=False)


class ExitCode(IntEnum):
    """What the shell learns."""

    DONE = 0
    INCOMPLETE = 1
    USAGE = 2
    UNREACHABLE = 3


@app.callback(
    invoke_without_command=True,
    subcommand_metavar="",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 all asked; 1 with --once: no worker answers, or something could not be asked; 2 an argument "
    "is wrong; 3 the broker does not answer. Example: heimdall top --worker http://127.0.0.1:8080",
)
def top(
    *,
    worker: Workers = None,
    management_url: Management = None,
    queue: Queue = _DEFAULT_QUEUE,
    interval: Interval = 2.0,
    once: Once = False,
    json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Show queues and workers: depth, consumers, rates, p95, versions. Ends with Ctrl-C."""
    from client.errors import BrokerUnreachable, CaptureError  # noqa: PLC0415 - see above

    for library in ("aio_pika", "aiormq"):
        logging.getLogger(library).addHandler(logging.NullHandler())
    try:
        with suppress(KeyboardInterrupt):
            complete = asyncio.run(_watch(url, queue, management_url, worker or [], interval, once=once, json=json))
            raise typer.Exit(ExitCode.DONE if complete else ExitCode.INCOMPLETE)
    except CaptureError as error:
        raise _leave(error, ExitCode.USAGE) from None
    except BrokerUnreachable as error:
        raise _leave(error, ExitCode.UNREACHABLE) from None


def _leave(error: Exception, code: ExitCode) -> typer.Exit:
    Console(stderr=True, markup=False, highlight=False).print(f"heimdall top: {error}", soft_wrap=True)
    return typer.Exit(code)


async def _watch(
    url: str, queue: str, management_url: str | None, workers: list[str], interval: float, *, once: bool, json: bool
) -> bool:
    """Look until told to stop; with `once`, whether all was there."""
    from client.link import check_url  # noqa: PLC0415 - see above
    from worker.commands.fleet import connect  # noqa: PLC0415
    from worker.commands.top_sources import Sources  # noqa: PLC0415

    async with await connect(url) as connection:
        sources = Sources(connection, check_url(url), queue, management_url, workers)
        await sources.look()  # What rates are counted from.
        if once:
            await asyncio.sleep(interval)
            view = await sources.look()
            _print(view, json=json)
            return bool(view.workers) and not view.problems
        await _follow(sources, interval, json=json)
    return True


async def _follow(sources: "Sources", interval: float, *, json: bool) -> None:
    from rich.live import Live  # noqa: PLC0415 - see above

    from worker.commands.top_view import render  # noqa: PLC0415

    console = Console(markup=False, highlight=False)
    if json or not console.is_terminal:
        while True:
            await asyncio.sleep(interval)
            _print(await sources.look(), json=json)
    with Live(console=console, screen=True, auto_refresh=False) as screen:
        while True:
            screen.update(render(await sources.look()), refresh=True)
            await asyncio.sleep(interval)


def _print(view: "View", *, json: bool) -> None:
    import orjson  # noqa: PLC0415 - see above

    from worker.commands.top_view import render  # noqa: PLC0415

    if json:
        typer.echo(orjson.dumps(view.document()).decode())
    else:
        Console(markup=False, highlight=False).print(render(view))


if __name__ == "__main__":
    app()
