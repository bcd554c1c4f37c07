"""`python -m bench.publish`: the last report's tables go into docs/benchmarks.md and README.md, its plots beside them.

What stands between the marks is replaced; everything else stays as it was written.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench.capacity import FIXES_PER_S, RECEIVERS, model, needs
from bench.figures import middle
from bench.plots import LATENCY, LOAD, STAGES, THROUGHPUT, draw
from bench.ratios import SCRIPT, WORKER, fastest, last_line
from bench.run import OUT
from bench.tables import ABSENT, Sheet, markdown

PAGE: Final = Path("docs/benchmarks.md")
README: Final = Path("README.md")
IMAGES: Final = Path("docs/images")
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"


def figures(report: Mapping[str, Any]) -> str:
    """All that the page shows of a report."""
    # The quick form measures no load curve.
    pictures = [f"![{title}](images/{name})" for name, title in _TITLES.items() if (IMAGES / name).exists()]
    sheets = [model(report).markdown(), needs(report, RECEIVERS, FIXES_PER_S).markdown()]
    return "\n".join([markdown(report), f"`{last_line(report['targets'])}`", "", *sheets, *pictures, ""])


_TITLES: Final = {
    THROUGHPUT: "Throughput of every subject on every workload",
    LATENCY: "Latency at 70 % of capacity",
    LOAD: "Throughput and p95 against offered load",
    STAGES: "Processor time per job by stage",
}


def summary(report: Mapping[str, Any]) -> str:
    """One table for the README."""
    columns = [
        "Workload",
        "worker, jobs/s",
        "best queue peer",
        "best serving peer",
        "CPU per job",
        "of the plain script",
    ]
    rows = []
    for name, document in report["workloads"].items():
        subjects = document.get("subjects", {})
        ratio = report["ratios"][name]["cpu_per_job_over_plain_script"]
        rows.append(
            [
                f"{name}: {document['title']}",
                _rate(subjects, WORKER),
                *(_peer(document, kind) for kind in ("queue", "serving")),
                _microseconds(subjects, WORKER),
                ABSENT if ratio is None else f"{ratio:.2f} of {_microseconds(subjects, SCRIPT)}",
            ]
        )
    machine = report["machine"]
    return Sheet(
        "One worker", columns, rows, f"{machine['processor']}, {machine['cores']} cores for everything."
    ).markdown()


def _peer(document: Mapping[str, Any], kind: str) -> str:
    name = fastest(document, kind)
    return ABSENT if name is None else f"{_rate(document['subjects'], name)} ({name})"


def _rate(subjects: Mapping[str, Any], name: str) -> str:
    rate = middle(subjects, name, "drain", "jobs_per_s")
    return ABSENT if rate is None else f"{rate:,.0f}"


def _microseconds(subjects: Mapping[str, Any], name: str) -> str:
    used = middle(subjects, name, "drain", "cpu_us")
    return ABSENT if used is None else f"{used:,.0f} µs"


def replaced(text: str, figures_: str, where: str) -> str:
    """A text with other figures between its marks.

    Raises:
        ValueError: it has no marks.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{where} has no lines `{BEGIN}` and `{END}` to put the figures between")
    return f"{before}{BEGIN}\n\n{figures_}\n{END}{after}"


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.publish", description=__doc__)
    parser.add_argument("report", nargs="?", type=Path, default=OUT / "report.json")
    arguments = parser.parse_args(argv)
    try:
        report = json.loads(arguments.report.read_text())
        PAGE.write_text(replaced(PAGE.read_text(), figures(report), str(PAGE)))
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    draw(report, IMAGES)
    if BEGIN in README.read_text():
        README.write_text(replaced(README.read_text(), summary(report), str(README)))
    print(f"published to {PAGE} and {IMAGES}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
