"""The report for people."""

from typing import Final

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from worker.commands.findings import Finding, Report, Status

_STYLES: Final = {Status.OK: "green", Status.WARN: "yellow", Status.FAIL: "bold red", Status.SKIP: "dim"}
_DIGEST_SHOWN: Final = 19  # "sha256:" and twelve digits


def show(report: Report, console: Console) -> None:
    """Print a report: a line per finding, and below it what to do."""
    console.print(_head(report))
    console.print(_table(report))
    console.print(_verdict(report))


def _head(report: Report) -> Text:
    digest = str(report.facts.get("digest", ""))[:_DIGEST_SHOWN]
    return Text.assemble((report.model, "bold"), f"  {digest}…" if digest else "")


def _table(report: Report) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    before = ""
    for finding in report.findings:
        style = _STYLES[finding.status]
        name = "" if finding.check == before else finding.check
        table.add_row(Text(str(finding.status), style=style), Text(name), _found(finding))
        before = finding.check
    return table


def _found(finding: Finding) -> RenderableType:
    text = Text(finding.found, style="dim" if finding.status is Status.SKIP else "")
    return Group(text, Text(f"→ {finding.remedy}", style="cyan")) if finding.remedy else text


def _verdict(report: Report) -> Text:
    counts = [
        f"{report.count(status)} {name}"
        for status, name in ((Status.FAIL, "failed"), (Status.WARN, "to think about"), (Status.SKIP, "not run"))
        if report.count(status)
    ]
    summary = ", ".join([f"{report.count(Status.OK)} ok", *counts])
    if report.passed:
        return Text(f"may serve: {summary}", style="green")
    return Text(f"may not serve: {summary}", style="bold red")
