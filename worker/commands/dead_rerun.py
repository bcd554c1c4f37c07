"""A dead letter's job, computed again step by step. Runs as a process of its own, because it may take it down.

The order is a line of JSON on standard input. Each step is announced on standard output before it begins, and judged
after: the last one announced and not judged is where the process died.
"""

import ctypes
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from schemas.job import JOB_ID, JSON_CONTENT_TYPE, SIGMF_CONTENT_TYPE, JobHeaders
from worker.errors import InferenceFailed, JobError, MalformedEnvelope, ModelRejected
from worker.reading import read_json, read_sigmf
from worker.recording import Recording, decode_capture
from worker.serving.inputs import Tensors
from worker.serving.items import Item
from worker.serving.loading import load_version
from worker.serving.model import ModelVersion
from worker.serving.outputs import Fix, read_outputs
from worker.serving.rollout import VersionRecord
from worker.serving.session import SessionOptions

STEPS: Final = ("envelope", "metadata", "model", "admission", "decode", "features", "inference", "fix")
_PR_SET_PDEATHSIG: Final = 1
_BROKEN: Final = "broken"

Answer = TypeVar("Answer")
Outputs = dict[str, NDArray[np.generic]]


class Failed(Exception):
    """A step failed; it was judged already."""


@dataclass(slots=True)
class Rerun:
    """One job.

    Args:
        order: what `worker.commands.dead_explain` asks for.
    """

    order: dict[str, Any]
    sample: int | None = None
    body: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.body = Path(self.order["body"]).read_bytes()

    def run(self) -> None:
        """All steps, or up to the one that fails.

        Raises:
            Failed: one did.
        """
        self._step("envelope", self._check_envelope, lambda _: f"{self.order['content_type']}, {len(self.body)} bytes")
        recording = self._step("metadata", self._read, _describe_recording)
        version = self._step("model", self._load, lambda v: f"version {v.label}, {v.digest}, proven")
        self._step(
            "admission", lambda: version.admission.check(recording), lambda _: "the model takes such a recording"
        )
        for index in range(len(recording.ranges)):
            self.sample = index if recording.batch else None
            self._locate(version, recording, index)

    def _locate(self, version: ModelVersion, recording: Recording, index: int) -> None:
        item = self._step("decode", lambda: _seat(version, recording, index), _describe_item)
        tensors = self._step("features", lambda: _features(version, item), _describe_tensors)
        outputs = self._step("inference", lambda: _infer(version, tensors), _describe_outputs)
        self._step("fix", lambda: _read_fix(version, outputs, item), _describe_fix)

    def _step(self, name: str, work: Callable[[], Answer], describe: Callable[[Answer], str]) -> Answer:
        where = {"step": name} | ({} if self.sample is None else {"sample": self.sample})
        _say(where | {"begins": True})
        started = time.perf_counter()
        with _judged(where, started):
            answer = work()
            found = describe(answer)
        _say(where | {"ok": True, "found": found, "took_ms": _since(started)})
        return answer

    def _check_envelope(self) -> JobHeaders:
        job_id, content_type = self.order["job_id"], self.order["content_type"]
        if not job_id or not JOB_ID.fullmatch(job_id):
            raise MalformedEnvelope(f"the job id is {job_id!r:.140}")
        if content_type not in (SIGMF_CONTENT_TYPE, JSON_CONTENT_TYPE):
            raise MalformedEnvelope(f"content_type is {content_type!r:.140}")
        try:
            return JobHeaders.model_validate(self.order["headers"])
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False)
            detail = "; ".join(f"headers/{'/'.join(map(str, e['loc']))}: {e['msg']}" for e in found)
            raise MalformedEnvelope(detail) from None

    def _read(self) -> Recording:
        if "claim" in self.order["headers"]:
            raise ModelRejected(f"the dataset lies elsewhere and is not fetched here: {self.order['headers']['claim']}")
        if self.order["content_type"] == JSON_CONTENT_TYPE:
            return read_json(self.body)
        return read_sigmf(self.order["headers"].get("sigmf"), self.body)

    def _load(self) -> ModelVersion:
        if self.order["record"] is None:
            raise ModelRejected(self.order["no_model"])
        record = VersionRecord(**self.order["record"])
        return load_version(
            Path(self.order["directory"]), record, SessionOptions(), max_batch_size=1, require_golden=False
        )


@contextmanager
def _judged(where: dict[str, Any], started: float) -> Iterator[None]:
    try:
        yield
    except JobError as error:
        said, code = error.detail, str(error.code)
    except ModelRejected as error:
        said, code = error.reason, _BROKEN
    except MemoryError:
        said, code = "more memory is needed than this process may use", _BROKEN
    except Exception as error:  # A bug: what the worker would have answered as `internal`.
        said, code = f"{type(error).__name__}: {error}", "internal"
    else:
        return
    _say(where | {"ok": False, "code": code, "found": said, "took_ms": _since(started)})
    raise Failed


def _seat(version: ModelVersion, recording: Recording, index: int) -> Item:
    capture = decode_capture(recording, index, version.contract.level)
    seats = version.admission.seat(capture.receivers, recording.channels, lambda: version.plan.powers(capture))
    return Item(capture, seats)


def _features(version: ModelVersion, item: Item) -> Tensors:
    tensors = version.plan.allocate(1, item.capture.samples.shape[1])
    version.plan.fill(tensors, 0, item)
    return tensors


def _infer(version: ModelVersion, tensors: Tensors) -> Outputs:
    try:
        return version.session.run(version.contract.outputs, version.plan.feed(tensors))
    except RuntimeError as error:
        raise InferenceFailed(str(error)) from error


def _read_fix(version: ModelVersion, outputs: Outputs, item: Item) -> Fix:
    fixes = read_outputs(version.contract, outputs, [item.seats.origin])
    if fixes.faults[0] is not None:
        raise InferenceFailed(fixes.faults[0])
    return fixes.fix(0)


def _describe_recording(recording: Recording) -> str:
    rate = "the model's rate" if recording.sample_rate is None else f"{recording.sample_rate:g} Hz"
    datatype = recording.datatype.name if recording.datatype else "numbers as JSON"
    count = len(recording.ranges)
    return f"{datatype}, {recording.channels} receivers, {recording.ranges[0][1]} samples each, {rate}" + (
        f"; {count} samples to locate" if recording.batch else ""
    )


def _describe_item(item: Item) -> str:
    samples, seats = item.capture.samples, item.seats
    ignored = "".join(f"; {receiver} ignored: {why}" for receiver, why in seats.ignored)
    return f"{samples.shape[0]} x {samples.shape[1]} samples, peak {abs(samples).max():.3g} of full scale{ignored}"


def _describe_tensors(tensors: Tensors) -> str:
    return ", ".join(f"{name} {list(t.shape)} from {t.min():.4g} to {t.max():.4g}" for name, t in tensors.items())


def _describe_outputs(outputs: Outputs) -> str:
    return ", ".join(f"{name} {values[0].tolist()}" for name, values in outputs.items())


def _describe_fix(fix: Fix) -> str:
    sigma = [value**0.5 for value in fix.covariance_m2.diagonal().tolist()]
    return f"{fix.latitude_deg:.5f}, {fix.longitude_deg:.5f}; 1 sigma {sigma[0]:.0f} m east, {sigma[1]:.0f} m north"


def _say(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)  # noqa: T201 - the parent reads it


def _since(started: float) -> float:
    return round(1000 * (time.perf_counter() - started), 3)


def _limit(data_bytes: int, parent: int) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (data_bytes, data_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # It died before we asked to die with it.
        sys.exit(1)


def main() -> None:
    """Compute what standard input asks for."""
    order = json.load(sys.stdin)
    _limit(order["data_bytes"], order["parent"])
    with suppress(Failed):
        Rerun(order).run()


if __name__ == "__main__":
    main()
