"""`heimdall follow`: live results as they come, for people and for pipes.

Fixes go to standard output; failures and remarks to standard error, failures also to standard output with `--json`.
Exit codes: 0 ended as asked; 1 `--count` is reached and one of them is a failure; 2 an option is wrong; 3 no broker,
or `--timeout` passed before `--count` was reached.
"""

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

import typer
from rich.console import Console

from client.commands import parameters as p
from client.commands.exits import ExitCode, told
from client.commands.messages import shown, stderr
from client.cot import cot_event
from client.errors import CaptureError
from client.following import Event, follow
from client.following_output import failure_row, fix_row, geojson_seq, header
from client.link import check_url, without_password
from client.options import DEFAULT_TIMEOUT_S
from schemas.events import CompleteEvent

DEFAULT_STALE_S: Final = 60.0
ROWS_PER_HEADER: Final = 40


@dataclass(slots=True)
class _Writer:
    """Writes events in one form."""

    messages: Console
    form: str
    stale_s: float
    fixes: int = 0
    failures: int = 0
    results: Console = field(default_factory=lambda: Console(markup=False, highlight=False))

    def write(self, event: Event) -> None:
        """Write one event."""
        if self.form == "json":
            typer.echo(event.model_dump_json())
        if isinstance(event, CompleteEvent):
            self._write_fix(event)
            self.fixes += 1
        else:
            self.messages.print(failure_row(event), style="red", soft_wrap=True)
            self.failures += 1

    def _write_fix(self, event: CompleteEvent) -> None:
        if self.form == "geojson-seq":
            typer.echo(geojson_seq(event), nl=False)
        elif self.form == "cot":
            typer.echo(cot_event(event.data, stale_s=self.stale_s))
        elif self.form == "rows":
            if self.fixes % ROWS_PER_HEADER == 0:
                self.results.print(header(), style="bold", soft_wrap=True)
            self.results.print(fix_row(event.data), soft_wrap=True)


def follow_command(
    *,
    url: p.Url = p.DEFAULT_URL,
    session: p.FollowSession = None,
    count: p.Count = None,
    timeout: p.FollowTimeout = None,
    geojson_seq: p.AsGeojsonSeq = False,
    cot: p.AsCot = False,
    stale: p.Stale = DEFAULT_STALE_S,
    json: p.AsJson = False,
) -> None:
    """Show live results as they come."""
    messages = stderr()
    with told(messages), shown(messages):
        forms = [name for name, chosen in (("geojson-seq", geojson_seq), ("cot", cot), ("json", json)) if chosen]
        if len(forms) > 1:
            raise CaptureError(f"--{' and --'.join(forms)}: choose one")
        writer = _Writer(messages, forms[0] if forms else "rows", stale)
        where = without_password(check_url(url))
        try:
            asyncio.run(_follow(url, where, session, count, timeout, writer))
        except KeyboardInterrupt:
            messages.print(f"followed: fixes={writer.fixes} failures={writer.failures}")
            raise typer.Exit(ExitCode.LOCATED) from None
    told_of = writer.fixes + writer.failures
    messages.print(f"followed: fixes={writer.fixes} failures={writer.failures}")
    if count is not None and told_of < count:
        messages.print(f"{told_of} of {count} results within {timeout:g} s")
        raise typer.Exit(ExitCode.NO_ANSWER)
    raise typer.Exit(ExitCode.ERROR_ANSWER if count is not None and writer.failures else ExitCode.LOCATED)


async def _follow(
    url: str, where: str, session: str | None, count: int | None, timeout: float | None, writer: _Writer
) -> None:
    ends = None if timeout is None else asyncio.get_running_loop().time() + timeout
    limit = asyncio.timeout(None)

    def ready() -> None:
        limit.reschedule(ends)
        of = f" of session {session}" if session else ""
        writer.messages.print(f"following results{of} at {where}; Ctrl-C ends", style="dim", soft_wrap=True)

    # Until it is connected, the time runs out there: as an error that says why.
    connect_timeout = DEFAULT_TIMEOUT_S if timeout is None else min(timeout, DEFAULT_TIMEOUT_S)
    events = follow(url, session_id=session, connect_timeout=connect_timeout, on_ready=ready)
    try:
        async with limit, aclosing(events):
            async for event in events:
                writer.write(event)
                if count is not None and writer.fixes + writer.failures >= count:
                    return
    except TimeoutError:
        return
