"""What `heimdall publish` shows while it works and when it ends."""

import time
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson
import typer
from rich import progress as bars
from rich.console import Console

from client.publishing import Confirmed, Publishing
from client.sources import Source
from client.windows import NANOSECONDS, Windows

_UNTOLD_S = 0.001


class Progress:
    """A bar on a terminal, a line at the end, and a line of JSON per job where asked for.

    Args:
        messages: standard error.
        windows: how recordings are cut.
        by_line: print each confirmed job on standard output.
    """

    def __init__(self, messages: Console, windows: Windows, *, by_line: bool) -> None:
        self._messages = messages
        self._windows = windows
        self._by_line = by_line
        self._expected = self._before = self._done = 0
        self._sessions: dict[str, None] = {}
        self._began = time.monotonic()
        self._bar = bars.Progress(
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TextColumn("{task.fields[speed]}"),
            bars.TimeRemainingColumn(),
            console=messages,
            transient=True,
            disable=not messages.is_terminal,
        )
        self._task = self._bar.add_task("publishing", total=0, speed="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def expect(self, source: Source, publishing: Publishing) -> None:
        """A recording is about to be published."""
        todo = len(publishing.todo(source))
        self._before += self._windows.count(source.duration_s) - todo
        self._expected += todo
        self._bar.update(self._task, total=self._expected)
        left_s = self._windows.left_s(source.duration_s)
        if left_s > _UNTOLD_S:
            self._messages.print(f"{source.name}: the last {left_s:.3g} s are in no whole window", style="dim")

    def confirmed(self, one: Confirmed) -> None:
        """The broker has a window."""
        self._done += 1
        self._sessions[one.session_id] = None
        speed = self._done / max(time.monotonic() - self._began, 1e-6)
        self._bar.update(self._task, completed=self._done, description=one.source, speed=f"{speed:.0f}/s")
        if self._by_line:
            typer.echo(orjson.dumps(_line(one)))

    def summarise(self, journal: Path | None, *, interrupted: bool) -> None:
        """Say what was done."""
        if interrupted and not self._expected:
            return
        took_s = time.monotonic() - self._began
        before = f", {self._before} confirmed before" if self._before else ""
        sessions = ", ".join(self._sessions) or "none"
        whole = f"{self._done} of {self._expected}" if interrupted else f"{self._done}"
        self._messages.print(f"published: jobs={whole}{before} in {took_s:.1f} s; session {sessions}", soft_wrap=True)
        if interrupted and self._done < self._expected:
            how = f"--journal {journal}" if journal else "--journal FILE"
            again = "the same command goes on there" if journal else f"with {how} a restart would have gone on there"
            self._messages.print(f"stopped early; {again}", soft_wrap=True)


def _line(one: Confirmed) -> dict[str, object]:
    return {
        "job_id": one.job_id,
        "session_id": one.session_id,
        "source": one.source,
        "start_s": one.stretch.start_ns / NANOSECONDS,
        "duration_s": one.stretch.duration_s,
    }
