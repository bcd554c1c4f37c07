"""`heimdall model check`: may this model serve, and if not, why not."""

import sys
from pathlib import Path

import orjson
from rich.console import Console

from worker.commands.apart import Crashed, run_apart
from worker.commands.candidate import Candidate, candidate
from worker.commands.examine import examine
from worker.commands.findings import Report
from worker.commands.rendering import show


def check_model(source: str, contract: Path | None, tracking_uri: str, max_batch: int, *, json: bool) -> bool:
    """Check a model and print the report.

    Returns:
        Whether nothing failed.

    Raises:
        NoSuchModel, ModelRejected, Unavailable: there is nothing to check.
    """
    with candidate(source, contract, tracking_uri) as found:
        report = examine_apart(found, max_batch)
    if json:
        sys.stdout.buffer.write(orjson.dumps(report.document(), option=orjson.OPT_APPEND_NEWLINE))
        sys.stdout.buffer.flush()
    else:
        show(report, Console(markup=False, highlight=False))
    return report.passed


def examine_apart(found: Candidate, max_batch: int) -> Report:
    """The report on a model, which may crash the process that tries it."""
    try:
        return run_apart(examine, found, max_batch)
    except Crashed:
        report = Report(found.name)
        report.fail(
            "process",
            "the process that tried the model died: so would a worker",
            "look for a custom operator, or memory beyond what this machine has; try the export in plain onnxruntime",
        )
        return report
