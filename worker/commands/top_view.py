"""The screen of `heimdall top`."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from worker.commands.top_sources import QueueFigures, View, WorkerFigures


def render(view: View) -> RenderableType:
    """Queues, workers, and what could not be asked."""
    parts: list[RenderableType] = [_queues(view.queues), Text()]
    parts.append(_workers(view.workers) if view.workers else Text("no worker answers", "bold red"))
    parts += [Text(problem, "yellow") for problem in view.problems]
    if view.workers and not any(worker.measured for worker in view.workers):
        parts.append(Text("rates and latencies: name the workers' HTTP servers by --worker", "dim"))
    return Group(*parts)


def _queues(queues: list[QueueFigures]) -> Table:
    table = _table("queue", "ready", "unacked", "consumers", "in/s", "out/s")
    for queue in queues:
        if queue.ready is None:
            table.add_row(Text(queue.name), Text("missing", "bold red"))
            continue
        numbers = (queue.ready, queue.unacked, queue.consumers, queue.in_per_s, queue.out_per_s)
        table.add_row(Text(queue.name), *(Text(_number(number)) for number in numbers))
    return table


def _workers(workers: list[WorkerFigures]) -> Table:
    table = _table("worker", "jobs/s", "errors/s", "p95 ms", "held", "serves", "state")
    for worker in workers:
        found = worker.measured
        numbers = (found.jobs_per_s, found.errors_per_s, found.p95_ms, found.in_flight) if found else (None,) * 4
        serves = ", ".join(f"{part} {version}" for part, version in worker.serving.items()) or "nothing"
        style = "green" if worker.state in {"serving", "takes jobs"} else "bold red"
        table.add_row(Text(worker.name), *(Text(_number(n)) for n in numbers), Text(serves), Text(worker.state, style))
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, overflow="fold", justify="left" if name in {"serves", "state"} else "right")
    return table


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"
