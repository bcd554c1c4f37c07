"""The report as tables, for the terminal and as Markdown. Every figure comes out of the report."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from bench.figures import middle
from bench.latency import LONE_TIMEOUT_S
from bench.ratios import floors_us, lone_floor_ms

ABSENT: Final = "-"
WIDTH: Final = 120
"""Of tables that go to a file."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table.

    Attributes:
        note: a line below it.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def markdown(self) -> str:
        """As GitHub shows it; the first column is text, the others are figures."""
        lines = [f"**{self.title}**", "", _line(self.columns), _line(["---", *["---:"] * (len(self.columns) - 1)])]
        lines += [_line(row) for row in self.rows]
        return "\n".join([*lines, *(["", self.note] if self.note else []), ""])

    def rich(self) -> Table:
        """For the terminal."""
        table = Table(title=self.title, title_justify="left", caption=self.note or None, caption_justify="left")
        for index, column in enumerate(self.columns):
            table.add_column(column, justify="left" if index == 0 else "right")
        for row in self.rows:
            table.add_row(*row)
        return table


def show(report: Mapping[str, Any]) -> None:
    """Print all tables."""
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH
    for sheet in sheets(report):
        console.print(sheet.rich())


def markdown(report: Mapping[str, Any]) -> str:
    """All tables, and what they were measured on."""
    return "\n".join([machine_line(report), "", *(sheet.markdown() for sheet in sheets(report)), failures(report)])


def machine_line(report: Mapping[str, Any]) -> str:
    """What the figures were measured on."""
    machine = report["machine"]
    packages = ", ".join(f"{name} {number}" for name, number in machine["packages"].items())
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB; {machine['system']}, "
        f"Python {machine['python']}; {packages}. Measured {machine['at']} in {report['seconds'] / 60:.0f} minutes "
        f"with `{' '.join(['python -m bench', *report['command'][1:]])}`; "
        f"load average before it {machine['load_before']:.2f}."
    )


def failures(report: Mapping[str, Any]) -> str:
    """What could not be measured, and why."""
    found = []
    for name, document in report["workloads"].items():
        for subject, shown in document.get("subjects", {}).items():
            if "failed" in shown:
                found.append(f"- {subject}, {name}: {shown['failed'].splitlines()[0][:300]}")
            elif turns := shown.get("idle_unanswered"):
                found.append(
                    f"- {subject}, {name}: a lone job was not answered within {LONE_TIMEOUT_S:g} s in {turns} turns"
                )
    return "\n".join(["Not measured:", "", *found, ""]) if found else ""


def sheets(report: Mapping[str, Any]) -> Iterator[Sheet]:
    """All tables that the report has figures for."""
    yield targets(report)
    for name, document in report["workloads"].items():
        if "subjects" in document:
            yield contest(name, document)
    yield from _beside(report)


def targets(report: Mapping[str, Any]) -> Sheet:
    """What must hold, and whether it does."""
    words = {True: "yes", False: "no", None: "not measured"}
    rows = [
        [target["name"], _bound(target), _figure(target["value"], 3), words[target["held"]]]
        for target in report["targets"]
    ]
    return Sheet("Targets", ["Target", "bound", "measured", "holds"], rows)


def contest(name: str, document: Mapping[str, Any]) -> Sheet:
    """Throughput, processor time and idle latency of all subjects of a workload: median (least to greatest)."""
    columns = ["Subject", "jobs/s", "CPU per job, µs", "broker, µs", "lone job, ms", "memory, MiB"]
    rows = [_subject(subject, shown) for subject, shown in _ranked(document["subjects"])]
    floors, subjects = document["floors"], document["subjects"]
    parts = [
        f"decode and features {_figure(middle(floors, 'features_us'))}",
        f"ONNX {_figure(middle(floors, 'onnx_us'))} (in batches of {floors['batch_size']:g})",
        f"AMQP {_figure(middle(subjects, 'floor_amqp', 'drain', 'cpu_us'))}",
        f"Redis {_figure(middle(floors, 'redis_us'))}",
    ]
    note = (
        f"Floors, µs per job: {', '.join(parts)}; together {_figure(floors_us(floors, subjects))}. "
        f"A lone job, each step alone: {_figure(lone_floor_ms(floors, subjects), 2)} ms."
    )
    return Sheet(f"{name}: {document['title']} ({document['body_bytes']:,} bytes)", columns, rows, note)


def _subject(name: str, shown: Mapping[str, Any]) -> list[str]:
    if "drain" not in shown:
        return [f"{name} ({shown['kind']})", "failed", *[ABSENT] * 4]
    drain = shown["drain"]
    return [
        f"{name} ({shown['kind']})",
        _spread(drain["jobs_per_s"]),
        _spread(drain["cpu_us"]),
        _figure(drain["broker_cpu_us"]["median"]),
        _spread(shown["idle_ms"], 2),
        _figure(shown["memory_mib"]),
    ]


def _ranked(subjects: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    """Fastest first; what failed last."""
    return sorted(subjects.items(), key=lambda item: -(middle(item[1], "drain", "jobs_per_s") or 0.0))


def _beside(report: Mapping[str, Any]) -> Iterator[Sheet]:
    if levels := [(n, d["sla"]) for n, d in report["workloads"].items() if "p95_ms" in d.get("sla", {})]:
        yield _service_level(levels)
    for name, document in report["workloads"].items():
        if "subjects" in document.get("sweep", {}):
            yield _sweep(name, document["sweep"])
    for name, document in report.get("batching", {}).items():
        if "gain" in document:
            title = f"Batching on {name}: {_spread(document['gain'], 2)} times the throughput"
            yield Sheet(title, ["Largest batch", *_COSTS], _costs(document["max_batch"]))
    for name, document in report.get("hits", {}).items():
        if "hit" in document:
            title = f"Cache on {name}: a hit costs {_spread(document['cpu_over_miss'], 2)} of a miss"
            note = f"Hit rate with one body repeated: {document['hit_rate']['median']:.4f}."
            yield Sheet(title, ["Input", *_COSTS], _costs({"new": document["miss"], "repeated": document["hit"]}), note)
    scale = report.get("scale", {})
    if "workers" in scale:
        title = f"Workers on one queue, {scale['workload']}, {scale['cores']} cores for all"
        yield Sheet(title, ["Workers", *_COSTS], _costs(scale["workers"]))
    if "depths" in report.get("depth", {}):
        yield _depths(report["depth"]["depths"])


_COSTS: Final = ("jobs/s", "CPU per job, µs", "broker, µs", "Redis, µs")


def _costs(documents: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    names = ("jobs_per_s", "cpu_us", "broker_cpu_us", "store_cpu_us")
    return [[key, *(_spread(document[name]) for name in names)] for key, document in documents.items()]


def _service_level(levels: Iterable[tuple[str, Mapping[str, Any]]]) -> Sheet:
    columns = ["Workload", "offered, jobs/s", "success", "p50, ms", "p95, ms", "p99, ms", "p99.9, ms"]
    rows = [
        [
            name,
            _figure(level["offered_jobs_per_s"]),
            f"{100 * level['success']:.3f} %",
            *(_spread(level[f"p{percent}_ms"], 1) for percent in ("50", "95", "99", "99.9")),
        ]
        for name, level in levels
    ]
    return Sheet("100 connections, open loop, at 70 % of the worker's capacity", columns, rows)


def _sweep(name: str, document: Mapping[str, Any]) -> Sheet:
    columns = ["Subject", "offered, jobs/s", "answered, jobs/s", "p50, ms", "p95, ms", "p99, ms"]
    rows = [
        [
            subject,
            _figure(step["offered_jobs_per_s"]),
            _figure(step["answered_jobs_per_s"]),
            *(_figure(step[f"p{percent}_ms"], 1) for percent in (50, 95, 99)),
        ]
        for subject, steps in document["subjects"].items()
        for step in steps
    ]
    return Sheet(f"Rising offered load, {name}, 100 connections, open loop", columns, rows)


def _depths(documents: Sequence[Mapping[str, Any]]) -> Sheet:
    names = ("jobs_per_s", "cpu_us", "broker_cpu_us", "store_cpu_us")
    rows = [[f"{one['waiting']:,}", *(_figure(one[name]) for name in names)] for one in documents]
    note = "A job is published for every answer, so that the number stays; no batch is larger than what waits."
    return Sheet("Cost of a job by the number that wait", ["Waiting jobs", *_COSTS], rows, note)


def _bound(target: Mapping[str, Any]) -> str:
    least, most = target["least"], target["most"]
    return f"≥ {least:g}" if least is not None else f"≤ {most:g}"


def _spread(document: Mapping[str, Any] | None, digits: int = 0) -> str:
    if document is None:
        return ABSENT
    least, middle_, most = (_figure(document[key], digits) for key in ("min", "median", "max"))
    return middle_ if least == most else f"{middle_} ({least}-{most})"


def _figure(value: float | None, digits: int = 0) -> str:
    return ABSENT if value is None else f"{value:,.{digits}f}"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
