"""The report as pictures: latency at 70 % of capacity, throughput and p95 by offered load, CPU per job by stage."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib import ticker
from matplotlib.axes import Axes

from bench.figures import middle
from bench.ratios import SCRIPT, WORKER

LATENCY: Final = "bench-latency.png"
LOAD: Final = "bench-load.png"
STAGES: Final = "bench-stages.png"
THROUGHPUT: Final = "bench-throughput.png"
WIDTH_IN: Final = 8.0
DPI: Final = 110
COLOURS: Final = ("#1f78b4", "#e31a1c", "#33a02c", "#ff7f00", "#6a3d9a", "#b15928")
GREY: Final = "#9a9a9a"
_PLAIN: Final = ticker.FuncFormatter(lambda value, _: f"{value:g}")
_TARGETS_MS: Final = {"p95": 100.0, "p99": 150.0}


def draw(report: Mapping[str, Any], directory: Path) -> list[Path]:
    """Draw what the report has figures for; the files that were written."""
    directory.mkdir(parents=True, exist_ok=True)
    plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "font.size": 10})
    drawn = []
    for name, step in ((LATENCY, _latency), (LOAD, _load), (STAGES, _stages), (THROUGHPUT, _throughput)):
        if step(report):
            plt.savefig(directory / name, dpi=DPI, bbox_inches="tight")
            drawn.append(directory / name)
        plt.close("all")
    return drawn


def _latency(report: Mapping[str, Any]) -> bool:
    """Cumulative distribution of latency."""
    levels = {n: d["sla"] for n, d in report["workloads"].items() if "curve" in d.get("sla", {})}
    if not levels:
        return False
    axes = plt.subplots(figsize=(WIDTH_IN, 4.2))[1]
    for colour, (name, level) in zip(COLOURS, levels.items(), strict=False):
        # The scale of 1/(1 - p) ends where a single job is left.
        tail = [max(1 - fraction, 1 / level["sent"]) for fraction in level["curve"]["fraction"]]
        label = f"{name}, {level['offered_jobs_per_s']:.0f} jobs/s"
        axes.step(level["curve"]["latency_ms"], [1 / t for t in tail], color=colour, label=label, where="post")
    for name, most_ms in _TARGETS_MS.items():
        axes.axvline(most_ms, color=GREY, linestyle=":", linewidth=1)
        axes.annotate(f"{name} target", (most_ms, 1.1), rotation=90, color=GREY, fontsize=8, ha="right", va="bottom")
    axes.set(
        xscale="log", yscale="log", xlabel="latency from when a job was due to its answer, ms", ylabel="percentile"
    )
    axes.set_yticks([1, 2, 10, 100, 1000, 10_000], ["0", "50", "90", "99", "99.9", "99.99"])
    axes.minorticks_off()
    axes.xaxis.set_major_formatter(_PLAIN)
    axes.set_title("100 connections, open loop, at 70 % of the worker's capacity", loc="left")
    axes.legend(frameon=False)
    axes.grid(alpha=0.25)
    return True


def _load(report: Mapping[str, Any]) -> bool:
    """Throughput and p95 of each subject against the offered load."""
    swept = [(n, d["sweep"]) for n, d in report["workloads"].items() if "subjects" in d.get("sweep", {})]
    if not swept:
        return False
    name, document = swept[0]
    upper, lower = plt.subplots(2, 1, figsize=(WIDTH_IN, 6.4), sharex=True)[1]
    for colour, (subject, steps) in zip(COLOURS, document["subjects"].items(), strict=False):
        offered = [step["offered_jobs_per_s"] for step in steps]
        upper.plot(offered, [step["answered_jobs_per_s"] for step in steps], "o-", color=colour, label=subject)
        lower.plot(offered, [step["p95_ms"] for step in steps], "o-", color=colour, label=subject)
    ends = [0, max(step["offered_jobs_per_s"] for steps in document["subjects"].values() for step in steps)]
    upper.plot(ends, ends, color=GREY, linestyle=":", linewidth=1, label="all that is offered")
    lower.axhline(_TARGETS_MS["p95"], color=GREY, linestyle=":", linewidth=1)
    upper.set(ylabel="answered in time, jobs/s", ylim=(0, None))
    lower.set(xlabel="offered, jobs/s", ylabel="p95, ms", yscale="log")
    lower.yaxis.set_major_formatter(_PLAIN)
    lower.yaxis.set_minor_formatter(_PLAIN)
    upper.set_title(f"{name}: {report['workloads'][name]['title']}; 100 connections, open loop", loc="left")
    upper.legend(frameon=False)
    for axes in (upper, lower):
        axes.grid(alpha=0.25)
    return True


_STAGES: Final = (
    ("decode and features", "features_us", "#1f78b4"),
    ("ONNX", "onnx_us", "#33a02c"),
    ("geometry, GeoJSON, JSON", "answers_us", "#ff7f00"),
    ("Redis", "redis_us", "#6a3d9a"),
)


def _stages(report: Mapping[str, Any]) -> bool:
    """Processor time per job of worker and script, and what each step costs by itself."""
    shown = {n: d for n, d in report["workloads"].items() if middle(d, "subjects", WORKER, "drain", "cpu_us")}
    if not shown:
        return False
    figure, panels = plt.subplots(1, len(shown), figsize=(max(WIDTH_IN, 2.6 * len(shown)), 4.4), squeeze=False)
    for axes, (name, document) in zip(panels[0], shown.items(), strict=True):
        _stage_bars(axes, document)
        axes.set_title(name, loc="left")
    panels[0][0].set_ylabel("CPU per job, µs")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, loc="lower center", ncols=3, fontsize=9)
    figure.subplots_adjust(bottom=0.3, wspace=0.35)
    return True


def _stage_bars(axes: Axes, document: Mapping[str, Any]) -> None:
    floors, subjects = document["floors"], document["subjects"]
    bottom = 0.0
    amqp = middle(subjects, "floor_amqp", "drain", "cpu_us") or 0.0
    stages = [(label, middle(floors, key) or 0.0, colour) for label, key, colour in _STAGES]
    for label, height, colour in [*stages, ("AMQP: consume, reply, acknowledge", amqp, "#b15928")]:
        axes.bar("steps\nalone", height, bottom=bottom, color=colour, label=label, width=0.7)
        bottom += height
    for name, colour in ((WORKER, "#202020"), (SCRIPT, GREY)):
        used = middle(subjects, name, "drain", "cpu_us")
        if used is not None:
            axes.bar(name.replace("_", "\n"), used, color=colour, width=0.7)
    axes.tick_params(axis="x", labelsize=8)
    axes.set_axisbelow(True)
    axes.grid(alpha=0.25, axis="y")


def _throughput(report: Mapping[str, Any]) -> bool:
    """Throughput of all subjects, workload by workload."""
    shown = {n: _rates(d) for n, d in report["workloads"].items() if "subjects" in d}
    shown = {name: rates for name, rates in shown.items() if rates}
    if not shown:
        return False
    height = 0.6 + 0.32 * max(len(rates) for rates in shown.values())
    panels = plt.subplots(len(shown), 1, figsize=(WIDTH_IN, height * len(shown)), squeeze=False, layout="constrained")[
        1
    ]
    for row, (name, rates) in zip(panels, shown.items(), strict=True):
        axes = row[0]
        colours = [
            "#202020" if subject == WORKER else "#1f78b4" if kind == "queue" else GREY for subject, kind, _ in rates
        ]
        bars = axes.barh([subject for subject, _, _ in rates], [rate for _, _, rate in rates], color=colours)
        axes.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=8)
        axes.set_title(f"{name}: jobs/s", loc="left")
        axes.margins(x=0.12)
    return True


def _rates(document: Mapping[str, Any]) -> Sequence[tuple[str, str, float]]:
    """Subject, kind and jobs/s, slowest first; without the AMQP floor, which locates nothing."""
    rates = [
        (name, str(shown["kind"]), rate)
        for name, shown in document["subjects"].items()
        if shown["kind"] != "floor" and (rate := middle(shown, "drain", "jobs_per_s")) is not None
    ]
    return sorted(rates, key=lambda one: one[2])
