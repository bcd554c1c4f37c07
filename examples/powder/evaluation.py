"""Models and held-out samples through a real broker and worker, judged by `heimdall evaluate`."""

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.local import ServiceProcess, Stack
from examples.model_file import read_contract
from examples.powder.model_file import campus_of
from examples.powder.recordings import write_recordings
from examples.powder.survey import Survey
from worker.serving.loading import file_digest
from worker.serving.registry import Registry

MODEL_NAME: Final = "powder"
REPORT: Final = "report.json"


class EvaluationFailed(RuntimeError):
    """A run did not give the figures it should; the message says which and why."""


@dataclass(frozen=True)
class Run:
    """One model on samples that it never saw.

    Attributes:
        name: of its directory below `out`.
        model: the file.
        survey: of samples, its columns in the order of the model's slots.
        rows: which of them.
    """

    name: str
    model: Path
    survey: Survey
    rows: Sequence[int]


def evaluate(stack: Stack, run: Run, out: Path, *, show: bool = False) -> str:
    """Register the model, start a worker on it, send it the samples, and write report and plots.

    Args:
        stack: broker, Redis and registry.
        run: model and samples.
        out: for report and plots.
        show: whether to print all that the command prints but the last line.

    Returns:
        The last line of `heimdall evaluate`.

    Raises:
        EvaluationFailed: a scene got no fix, or another model answered.
    """
    campus = campus_of(read_contract(run.model))
    with tempfile.TemporaryDirectory(prefix="heimdall-powder-") as directory:
        dataset = Path(directory)
        written = write_recordings(run.survey, campus, run.rows, dataset)
        left_out = len(run.rows) - written
        if left_out:
            print(f"{run.name}: {left_out} of {len(run.rows)} samples have fewer receivers than the model takes")
        if not written:
            raise EvaluationFailed(f"{run.name}: no sample has enough receivers of the model")
        with _served(stack, run.model):
            line = heimdall_evaluate([dataset], out, stack.broker.url, show=show)
    _check_model(out / REPORT, run.model)
    return line


@contextmanager
def _served(stack: Stack, model: Path) -> Iterator[None]:
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    Registry(stack.tracking_uri, MODEL_NAME).register(model)
    env = stack.worker_env() | {"HEIMDALL_MODEL_NAME": MODEL_NAME}
    with ServiceProcess([sys.executable, "-m", "worker"], env):
        yield


def heimdall_evaluate(datasets: Sequence[Path], out: Path, url: str = "", *, show: bool = False) -> str:
    """Run the command, and return its last line.

    Args:
        datasets: directories of recordings, or reports to pool.
        out: for report and plots.
        url: of the broker; reports need none.
        show: whether to print all that it prints but the last line.

    Raises:
        EvaluationFailed: it did not end well.
    """
    command = [sys.executable, "-m", "client.cli", "evaluate", *map(str, datasets), "--out", str(out)]
    environment = {**os.environ, "HEIMDALL_AMQP_URL": url} if url else None
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    if done.returncode:
        raise EvaluationFailed(f"heimdall evaluate ended with {done.returncode}:\n{done.stderr}{done.stdout}")
    *before, line = done.stdout.splitlines()
    if show:
        print("\n".join(before))
    return line


def _check_model(report: Path, model: Path) -> None:
    """A worker that answered with another version would not have been blind to these samples."""
    digests = {one["digest"] for one in json.loads(report.read_bytes())["models"]}
    expected = file_digest(model)
    if digests != {expected}:
        raise EvaluationFailed(f"{report}: answered by {sorted(digests)}, not by {model.name} ({expected}) alone")
