"""`heimdall evaluate DATASET`: labelled recordings through the queue, and how good the answers are.

Exit codes: 0 evaluated; 1 a `--fail-if` holds, or a scene got no fix; 2 an input or an option is wrong, nothing was
sent; 3 the broker did not answer.
"""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from client.client import HeimdallClient
from client.commands.parameters import DEFAULT_URL, Url
from client.errors import BrokerUnreachable, CaptureError
from client.evaluation.asking import ask_all
from client.evaluation.gate import Gate, parse_gate
from client.evaluation.labels import Labelled, find_labelled
from client.evaluation.plots import PlotsUnavailable, draw_all
from client.evaluation.report import METRICS, Evaluation, evaluate, read_report, write_report
from client.evaluation.scenes import Scene
from client.options import JobOptions

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_NO_ANSWER: Final = 3
REPORT: Final = "report.json"
_SHOWN: Final = 5
_TIMEOUT_S: Final = 30.0

Datasets = Annotated[
    list[Path],
    typer.Argument(
        metavar="DATASET…",
        help="Directories of labelled SigMF recordings; a report.json of an earlier run is taken as it is.",
    ),
]
FailIf = Annotated[
    list[str] | None,
    typer.Option("--fail-if", metavar="CONDITION", help='Exit with 1 if it holds: "coverage90<0.8"; repeatable.'),
]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="For report.json and the plots.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds per recording.")]
Concurrency = Annotated[int, typer.Option("--concurrency", min=1, max=256, help="Jobs on their way at a time.")]


def evaluate_command(
    datasets: Datasets,
    *,
    url: Url = DEFAULT_URL,
    fail_if: FailIf = None,
    out: Out = None,
    timeout: Timeout = _TIMEOUT_S,
    concurrency: Concurrency = 16,
) -> None:
    """Measure a served model on recordings whose truth is known."""
    messages = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
    try:
        gates = [parse_gate(text, METRICS) for text in fail_if or []]
        _make(out)
        earlier = [scene for path in datasets if path.is_file() for scene in read_report(path)]
        labelled = [one for path in datasets if not path.is_file() for one in find_labelled(path)]
        evaluation = evaluate([*earlier, *_ask(url, labelled, timeout, concurrency, messages)])
        if out is not None:
            _write(evaluation, [str(path) for path in datasets], out, messages)
    except CaptureError as error:
        messages.print(f"heimdall: {error}")
        raise typer.Exit(EXIT_USAGE) from None
    except BrokerUnreachable as error:
        messages.print(f"heimdall: {error}")
        raise typer.Exit(EXIT_NO_ANSWER) from None
    raise typer.Exit(_print(evaluation, gates, messages))


def _make(out: Path | None) -> None:
    """Find out that a report cannot be written before the first job is sent."""
    try:
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CaptureError(f"--out {out}: {error.strerror}") from None


def _ask(url: str, labelled: list[Labelled], timeout: float, concurrency: int, messages: Console) -> list[Scene]:
    # What the AMQP library logs about a broken connection, the client raises or repairs.
    for name in ("aiormq", "aio_pika"):
        logging.getLogger(name).addHandler(logging.NullHandler())
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=messages, transient=True) as progress:
        task = progress.add_task("locating", total=len(labelled))
        told: list[str] = []

        def done(notes: Sequence[str]) -> None:
            told.extend(notes)
            progress.advance(task)

        async def run() -> list[Scene]:
            async with HeimdallClient(url, connect_timeout=min(timeout, 10.0)) as client:
                asked: JobOptions = {"timeout": timeout, "resample": True}
                return await ask_all(client, labelled, asked, concurrency=concurrency, done=done)

        scenes = asyncio.run(run()) if labelled else []
    _print_some(told, "", messages, "dim")
    return scenes


def _write(evaluation: Evaluation, datasets: list[str], out: Path, messages: Console) -> None:
    write_report(evaluation, datasets, out / REPORT)
    written = [out / REPORT]
    try:
        written += draw_all(evaluation, out)
    except PlotsUnavailable as error:
        messages.print(f"heimdall: {error}")
    messages.print(f"written: {', '.join(map(str, written))}")


def _print(evaluation: Evaluation, gates: list[Gate], messages: Console) -> int:
    results = Console(markup=False, highlight=False)
    without = [f"{scene.name}[{scene.sample}]: {scene.code}: {scene.detail}" for scene in evaluation.failed]
    _print_some(without, "no fix: ", messages, "red")
    results.print(_table(evaluation))
    held = [gate for gate in gates if gate.fails(evaluation.figures)]
    for gate in held:
        messages.print(f"failed: {gate}: {gate.metric} is {evaluation.figures[gate.metric]:.4g}", style="red")
    typer.echo(evaluation.line)
    return EXIT_FAILED if held or evaluation.failed else 0


def _print_some(lines: Sequence[str], head: str, messages: Console, style: str) -> None:
    for line in lines[:_SHOWN]:
        messages.print(f"{head}{line}", style=style)
    if len(lines) > _SHOWN:
        messages.print(f"{head}… and {len(lines) - _SHOWN} more", style=style)


def _table(evaluation: Evaluation) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="dim", caption=evaluation.intervals, caption_justify="left")
    table.add_column("figure")
    for column in ("value", "from", "to"):
        table.add_column(column, justify="right")
    for name, estimate in evaluation.estimates.items():
        digits = 1 if name.endswith("_m") else 3
        table.add_row(name, *(f"{value:.{digits}f}" for value in (estimate.value, estimate.low, estimate.high)))
    return table
