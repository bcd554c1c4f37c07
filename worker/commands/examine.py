"""All checks of a model, in the order in which one needs another. Nothing is written, nothing is fetched."""

import tempfile
import time
from pathlib import Path
from typing import Final

import numpy as np
from shapely.errors import ShapelyError

from worker.commands.answers import check_answers
from worker.commands.candidate import Candidate
from worker.commands.document import read_document
from worker.commands.findings import Report, Status
from worker.commands.golden import check_golden
from worker.commands.graph import match_graph
from worker.commands.onnx_file import OnnxFile, read_onnx
from worker.commands.subject import Batch, Subject
from worker.commands.trials import trials
from worker.dsp.log_mel import LogMel
from worker.errors import ModelRejected
from worker.serving.contract import FILE_NAME, ModelContract
from worker.serving.contract_inputs import LogMelInput
from worker.serving.inputs import FeaturePlan
from worker.serving.loading import MODEL_NAME, batch_buckets, file_digest, load_version
from worker.serving.rollout import VersionRecord
from worker.serving.seating import Admission
from worker.serving.session import OnnxSession, SessionOptions

_REPEATS: Final = 3
_CHECKS: Final = ("file", "contract", "graph", "runtime", "features", "golden", "answers", "batch", "timing", "worker")
_MEBIBYTE: Final = 1024 * 1024


def examine(candidate: Candidate, max_batch: int) -> Report:
    """Run every check that can be run.

    Args:
        candidate: files of the model, and what the registry says of them.
        max_batch: largest batch that a worker would ask of it.
    """
    report = Report(candidate.name)
    file = _check_file(candidate, report)
    inside = file.metadata if file else {}
    read = read_document(inside, candidate.contract, report) if file or candidate.contract else None
    if file and read:
        match_graph(file, read[0], report)
    session = _load(candidate, file, report)
    parts = _check_features(read[0], report) if read else None
    if session and read and parts and not _failed(report, "graph"):
        subject = Subject(read[0], session, *parts)
        check_golden(subject, report)
        check_answers(subject, report)
        _time(subject, max_batch, report)
        _as_a_worker(candidate, read[1], max_batch, report)
    mentioned = {finding.check for finding in report.findings}
    for check in _CHECKS:
        if check not in mentioned:
            report.skip(check, "not run: see what failed above")
    return report


def _failed(report: Report, check: str) -> bool:
    return any(finding.check == check and finding.status is Status.FAIL for finding in report.findings)


def _check_file(candidate: Candidate, report: Report) -> OnnxFile | None:
    digest, size = file_digest(candidate.model), candidate.model.stat().st_size
    report.facts = {"bytes": size, "digest": digest}
    if candidate.version is not None:
        _check_digest(candidate.version, digest, report)
    try:
        file = read_onnx(candidate.model)
    except ValueError as error:
        report.fail("file", f"it is no ONNX model: {error}", "is it whole? export it again")
        return None
    report.facts |= {"opset": file.opset, "ir_version": file.ir_version, "producer": file.producer}
    if file.external:
        places = sorted({location for _, location in file.external})
        report.fail(
            "file",
            f"{len(file.external)} tensors, as {file.external[0][0]!r}, are in other files: {', '.join(places[:3])}",
            "a version is one file: save it with its weights inside (onnx.save_model, save_as_external_data=False)",
        )
        return file
    report.ok("file", f"{_megabytes(size)}, opset {file.opset}, IR {file.ir_version}, weights inside")
    return file


def _megabytes(size: int) -> str:
    return f"{size / _MEBIBYTE:.1f} MiB" if size >= _MEBIBYTE else f"{size / 1024:.1f} KiB"


def _check_digest(record: VersionRecord, digest: str, report: Report) -> None:
    if record.digest is None:
        report.fail(
            "digest",
            f"version {record.version} has no tag heimdall.digest: a worker refuses it",
            "register it with `heimdall model register`, or set the tag to the digest that you know to be right",
        )
    elif record.digest != digest:
        report.fail("digest", f"the file has {digest}, the registry says {record.digest}", "register the file anew")
    else:
        report.ok("digest", "is what the registry says")


def _load(candidate: Candidate, file: OnnxFile | None, report: Report) -> OnnxSession | None:
    if file is None or file.external:
        return None  # Loading would read the other files.
    try:
        session = OnnxSession(candidate.model, SessionOptions())
    except ModelRejected as error:
        report.fail("runtime", str(error), "export with an opset that this ONNX Runtime knows, and no custom operators")
        return None
    report.ok("runtime", "ONNX Runtime loads it")
    return session


def _check_features(contract: ModelContract, report: Report) -> tuple[FeaturePlan, Admission] | None:
    before = report.passed, len(report.findings)
    for name, bound in contract.inputs.items():
        if isinstance(bound, LogMelInput):
            try:
                LogMel(bound.spec)
            except ValueError as error:
                report.fail("features", f"inputs/{name}: {error}", "take what the model was trained with")
    try:
        admission = Admission(contract)
    except (ValueError, ShapelyError) as error:
        report.fail("features", f"area is no polygon: {error}", "a GeoJSON Polygon is closed, longitude comes first")
        return None
    if len(report.findings) > before[1]:
        return None
    report.ok("features", f"{', '.join(sorted({i.feature for i in contract.inputs.values()}))} can be computed")
    return FeaturePlan(contract), admission


def _time(subject: Subject, max_batch: int, report: Report) -> None:
    """Milliseconds of features, and of a run of each batch size that a worker warms up."""
    made = trials(subject.contract, max_batch)
    started = time.perf_counter()
    batch, _ = subject.batch(made)
    features_ms = (time.perf_counter() - started) * 1e3 / len(made)
    if not len(batch):
        return
    runs: dict[int, float] = {}
    for size in batch_buckets(max_batch):
        part = batch.part([row % len(batch) for row in range(size)])
        try:
            runs[size] = _median_ms(subject, part)
        except (RuntimeError, ValueError) as error:
            report.fail("timing", f"a batch of {size} fails: {error}", "lower HEIMDALL_MAX_BATCH_SIZE, or export anew")
            return
    shown = ", ".join(f"{size}: {ms:.2g} ms" for size, ms in runs.items())
    report.ok(
        "timing",
        f"features {features_ms:.2g} ms an item; a run of {shown} (one thread)",
        features_ms=features_ms,
        run_ms={str(size): ms for size, ms in runs.items()},
    )


def _median_ms(subject: Subject, batch: Batch) -> float:
    subject.run(batch)  # The first run of a size pays for its allocations.
    taken = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        subject.run(batch)
        taken.append(time.perf_counter() - started)
    return float(np.median(taken)) * 1e3


def _as_a_worker(candidate: Candidate, contract: bytes, max_batch: int, report: Report) -> None:
    """The verdict that counts: the same steps that a worker takes, from the same files."""
    with tempfile.TemporaryDirectory(prefix="heimdall-check-") as name:
        directory = Path(name)
        (directory / MODEL_NAME).symlink_to(candidate.model.resolve())
        (directory / FILE_NAME).write_bytes(contract)
        record = candidate.version or VersionRecord("", "", "", report.facts["digest"], "", None, 0)
        try:
            load_version(directory, record, SessionOptions(), max_batch_size=max_batch)
        except ModelRejected as error:
            report.fail("worker", f"a worker refuses it: {error}", "see the checks above")
        else:
            report.ok("worker", f"a worker takes it, with batches of up to {max_batch}")
