"""Why a job failed: it is computed again here, step by step, in a child process with the model version it failed on."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from worker.commands.dead_letter import Letter
from worker.errors import HeimdallError
from worker.serving.registry import Registry
from worker.serving.rollout import PRODUCTION, VersionRecord

_DATA_BYTES: Final = 4 * 1024**3
_CRASHES: Final = "crashes_worker"
_MAX_TEXT: Final = 600


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the child did.

    Attributes:
        letter: whose job it was.
        version: of the model that was tried; None where none could be had.
        notes: what to know beside.
        steps: as judged; the last one may have no judgement, then the process died in it.
        died: how the process ended, if not by itself.
    """

    letter: Letter
    version: str | None
    notes: list[str]
    steps: list[dict[str, Any]]
    died: str | None

    @property
    def code(self) -> str | None:
        """What the job would end with now; None = it is located."""
        if self.died is not None:
            return _CRASHES
        failed = [step for step in self.steps if step.get("ok") is False]
        return str(failed[0]["code"]) if failed else None

    @property
    def verdict(self) -> str:
        """In a sentence."""
        step = self.steps[-1]["step"] if self.steps else "start"
        if self.died is not None:
            found = f"the process {self.died} in the step {step}"
        elif self.code is not None:
            found = f"fails in the step {step}: {self.code}"
        else:
            found = f"is located by version {self.version}"
        if self.code == self.letter.code:
            return f"reproduced: {found}"
        if self.code is None:
            return f"not reproduced: alone and now, the job {found}; replay it"
        return f"the job {found}, where it was {self.letter.code}"

    def document(self) -> dict[str, Any]:
        """For scripts."""
        return {
            "job_id": self.letter.job_id,
            "code": self.letter.code,
            "reason": self.letter.reason,
            "tried_version": self.version,
            "notes": self.notes,
            "steps": self.steps,
            "died": self.died,
            "code_now": self.code,
            "reproduced": self.code == self.letter.code,
            "verdict": self.verdict,
        }


def explain(letter: Letter, body: bytes, registry: Registry, version: str | None, timeout: float) -> Explanation:
    """Compute the job of a letter again.

    Args:
        letter: of the job.
        body: of the job.
        registry: has the model.
        version: to try; None = the one that the letter names, or else production.
        timeout: seconds that the child may take.
    """
    with _model(registry, version or letter.model_version) as (record, directory, problem):
        notes = [problem] if problem else []
        notes += _notes(letter, record)
        with tempfile.NamedTemporaryFile(prefix="heimdall-dead-") as file:
            Path(file.name).write_bytes(body)
            order = {
                "body": file.name,
                "job_id": letter.job_id,
                "content_type": letter.content_type,
                "headers": dict(letter.headers),
                "record": asdict(record) if record else None,
                "no_model": problem,
                "directory": str(directory),
                "data_bytes": _DATA_BYTES,
                "parent": os.getpid(),
            }
            steps, died = _run_apart(order, timeout)
    return Explanation(letter, record.version if record else None, notes, steps, died)


@contextmanager
def _model(registry: Registry, version: str | None) -> Iterator[tuple[VersionRecord | None, Path | None, str | None]]:
    """The version and its files; or else why they cannot be had, as the steps before need none."""
    problem: str | None = None
    try:
        record = registry.find(alias=PRODUCTION, version=version)
        download = registry.download(record)
        directory = download.__enter__()
    except HeimdallError as error:
        problem = f"no model to try it with: {error}"
    if problem is not None:
        yield None, None, problem
        return
    try:
        yield record, directory, None
    finally:
        download.__exit__(None, None, None)


def _notes(letter: Letter, record: VersionRecord | None) -> list[str]:
    notes = []
    if record is not None and letter.model_version is None:
        notes.append(f"the letter names no model version: tried with {record.version}, which is production now")
    elif record is not None and record.version != letter.model_version:
        notes.append(f"it failed on version {letter.model_version}")
    digest = letter.capsule.get("model-digest")
    if record is not None and digest and record.version == letter.model_version and record.digest != digest:
        notes.append(f"version {record.version} was {digest} when it failed, the registry has {record.digest} now")
    if letter.batch_mates:
        notes.append(f"it was computed together with {len(letter.batch_mates)} others; here it is alone")
    return notes


def _run_apart(order: dict[str, Any], timeout: float) -> tuple[list[dict[str, Any]], str | None]:
    command = [sys.executable, "-m", "worker.commands.dead_rerun"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    died = None
    with subprocess.Popen(  # noqa: S603 - our own interpreter and module
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as child:
        try:
            out, errors = child.communicate(json.dumps(order, default=str).encode(), timeout)
        except subprocess.TimeoutExpired:
            child.kill()
            out, errors = child.communicate()
            died = f"does not end within {timeout:g} s"
        except BaseException:
            child.kill()
            raise
    return _judged(out), died or _death(child.returncode, errors)


def _death(returncode: int, errors: bytes) -> str | None:
    if returncode < 0:
        return f"dies ({signal.Signals(-returncode).name})"
    if returncode:
        return f"ends with code {returncode}: {' '.join(errors.decode(errors='replace').split())[-_MAX_TEXT:]}"
    return None


def _judged(out: bytes) -> list[dict[str, Any]]:
    """The steps in order; one that has begun and was not judged stands without `ok`."""
    steps: list[dict[str, Any]] = []
    for line in out.splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            continue  # Not ours: a native library's own words.
        if said.pop("begins", False):
            steps.append(said)
        elif steps:
            steps[-1] |= said
    return steps


def show(explanation: Explanation, console: Console) -> None:
    """The steps, and the verdict."""
    letter = explanation.letter
    console.print(Text.assemble((letter.job_id or "-", "bold"), f"  {letter.code}: {letter.reason}"))
    for note in explanation.notes:
        console.print(Text(note, "dim"))
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for step in explanation.steps:
        name = step["step"] + (f" [{step['sample']}]" if "sample" in step else "")
        table.add_row(_mark(step), Text(name), Text(f"{step.get('found', explanation.died or '')}"))
    console.print(table)
    console.print(Text(explanation.verdict, "green" if explanation.code is None else "bold red"))


def _mark(step: dict[str, Any]) -> Text:
    if "ok" not in step:
        return Text("died", "bold red")
    return Text("ok", "green") if step["ok"] else Text("fail", "bold red")
