"""What `heimdall ctl` shows: the registry's changes, and a table of workers that fills as they answer."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from worker.commands.orders import Outcome, Watch, parts_of


@contextmanager
def live(console: Console, *, wanted: bool) -> Iterator[Watch]:
    """Show an outcome while it comes about, on a terminal; elsewhere nothing is shown before the end."""
    if not wanted or not console.is_terminal:
        yield lambda _: None
        return
    with Live(console=console, transient=True) as display:
        yield lambda outcome: display.update(_view(outcome, ended=False))


def show(outcome: Outcome, console: Console) -> None:
    """Print how it ended."""
    console.print(_view(outcome, ended=True))


def _view(outcome: Outcome, *, ended: bool) -> RenderableType:
    changes = [Text(f"registry: {line}") for line in (outcome.change.said if outcome.change else ())]
    verdict = [_verdict(outcome)] if ended else []
    return Group(*changes, *([_table(outcome, ended=ended)] if outcome.called or outcome.answers else []), *verdict)


def _table(outcome: Outcome, *, ended: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("worker", "", "serves", "state", "answer"):
        table.add_column(column, overflow="fold")
    complaints = outcome.complaints
    for instance in sorted(set(outcome.called) | set(outcome.answers)):
        reply = outcome.answers.get(instance)
        known = reply or outcome.called[instance]
        serves = ", ".join(f"{part} {version}" for part, version in parts_of(known).items()) or "nothing"
        if complaint := complaints.get(instance):
            mark, said = Text("no", "bold red"), Text(complaint)
        elif reply is None:
            mark, said = Text("missing", "bold red") if ended else Text("…", "yellow"), Text("no answer", "dim")
        else:
            mark, said = Text("ok", "green"), Text(reply.detail, "dim")
        table.add_row(Text(instance), mark, Text(serves), Text(known.state), said)
    return table


def _verdict(outcome: Outcome) -> Text:
    title, number = outcome.order.title, len(outcome.answers)
    if outcome.refused:
        return Text(f"{title}: refused, nothing was changed", "bold red")
    if not outcome.called:
        rest = "; workers that start follow the registry" if outcome.change else ""
        who = f"worker {outcome.order.instance}" if outcome.order.instance else "no worker"
        return Text(f"{title}: {who} answers{rest}" if not outcome.order.instance else f"{who} does not answer", "red")
    if outcome.agreed:
        return Text(f"{title}: {number} of {number} workers agree", "green")
    names = sorted({*outcome.complaints, *outcome.missing})
    return Text(f"{title}: not agreed; see {', '.join(names)}", "bold red")
