"""From a downloaded directory to a version that has proven itself. Blocking: run it in a thread.

The steps, each of which may refuse: digest → contract → session → graph against contract → golden vectors → warm-up.
"""

import base64
import binascii
import hashlib
import time
from pathlib import Path
from typing import Final

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import ValidationError
from shapely.errors import ShapelyError

from worker.errors import JobError, ModelRejected
from worker.reading import read_sigmf
from worker.recording import decode_capture
from worker.serving.contract import FILE_NAME, METADATA_KEY, Golden, ModelContract
from worker.serving.inputs import FeaturePlan, Tensors
from worker.serving.items import Item
from worker.serving.model import ModelVersion
from worker.serving.outputs import read_outputs
from worker.serving.rollout import VersionRecord
from worker.serving.seating import Admission
from worker.serving.session import OnnxSession, SessionOptions

MODEL_NAME: Final = "model.onnx"
FEATURES_VERSION: Final = b"1"
"""Raised when the same contract and input give other features, so that no older cache entry answers."""
_MAX_REPORTED: Final = 3


def load_version(
    directory: Path,
    record: VersionRecord,
    options: SessionOptions,
    *,
    max_batch_size: int,
    require_golden: bool = True,
) -> ModelVersion:
    """Load, prove and warm up one version.

    Args:
        directory: holds `model.onnx` and perhaps `contract.json`, nothing else.
        record: what the registry says of it.
        options: of the session.
        max_batch_size: largest run that will be asked of it.
        require_golden: refuse a contract without golden vectors.

    Raises:
        ModelRejected: with the step that refused, and why.
    """
    path = directory / MODEL_NAME
    digest = file_digest(path)
    if record.digest is None:
        raise ModelRejected("the version has no tag heimdall.digest: what was downloaded cannot be verified")
    if digest != record.digest:
        raise ModelRejected(f"the digest of {MODEL_NAME} is {digest}, the registry says {record.digest}")
    session = OnnxSession(path, options)
    contract, contract_bytes = read_contract(directory, session)
    session.check(contract)
    version = ModelVersion(
        record=record,
        digest=digest,
        contract=contract,
        session=session,
        plan=_plan(contract),
        admission=_admission(contract),
        cache_scope=hashlib.sha256(b"\0".join((FEATURES_VERSION, digest.encode(), contract_bytes))).digest(),
        loaded_ns=time.time_ns(),
    )
    if require_golden and not contract.golden:
        raise ModelRejected(
            "the contract holds no golden vectors: nothing shows that this model computes what it should"
        )
    for index, golden in enumerate(contract.golden):
        _prove(version, golden, f"golden[{index}]")
    warm_up(version, max_batch_size)
    return version


def file_digest(path: Path) -> str:
    """`sha256:…` of a file.

    Raises:
        ModelRejected: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelRejected(f"{path.name} cannot be read: {error.strerror}") from error


def read_contract(directory: Path, session: OnnxSession) -> tuple[ModelContract, bytes]:
    """The contract beside the model, or else the one inside it, and its bytes.

    Raises:
        ModelRejected: there is none, or it is not valid.
    """
    beside = directory / FILE_NAME
    text = beside.read_bytes() if beside.exists() else session.metadata.get(METADATA_KEY, "").encode()
    if not text:
        raise ModelRejected(f"no contract: neither {FILE_NAME} beside the model nor {METADATA_KEY} in its metadata")
    try:
        return ModelContract.model_validate(orjson.loads(text)), text
    except orjson.JSONDecodeError as error:
        raise ModelRejected(f"the contract is no JSON: {error}") from error
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)[:_MAX_REPORTED]
        detail = "; ".join(f"{'/'.join(map(str, e['loc']))}: {e['msg']}" for e in found)
        raise ModelRejected(f"the contract does not validate: {detail}") from error


def batch_buckets(max_batch_size: int) -> list[int]:
    """Sizes to warm up: powers of two, and the largest."""
    return sorted({min(1 << power, max_batch_size) for power in range(max_batch_size.bit_length() + 1)})


def warm_up(version: ModelVersion, max_batch_size: int) -> None:
    """Run each batch bucket once, so that the first jobs do not pay for allocations; the largest again, to time it.

    Raises:
        ModelRejected: the graph fails on a batch.
    """
    for size in batch_buckets(max_batch_size):
        tensors = version.plan.allocate(size, version.contract.required_samples)
        try:
            outputs = version.session.run(version.contract.outputs, version.plan.feed(tensors))
        except RuntimeError as error:
            raise ModelRejected(f"warm-up with a batch of {size} failed: {error}") from error
        try:  # Whatever the empty input gave, it must be readable as positions.
            read_outputs(version.contract, outputs, [None] * size)
        except ValueError as error:
            shapes = {name: list(values.shape) for name, values in outputs.items()}
            raise ModelRejected(f"the outputs of a batch of {size} cannot be read, shapes {shapes}: {error}") from error
    feed = version.plan.feed(tensors)
    started = time.perf_counter()
    version.session.run(version.contract.outputs, feed)
    version.session.full_batch_s = time.perf_counter() - started


def _plan(contract: ModelContract) -> FeaturePlan:
    try:
        return FeaturePlan(contract)
    except ValueError as error:
        raise ModelRejected(f"the contract's features cannot be computed: {error}") from error


def _admission(contract: ModelContract) -> Admission:
    try:
        return Admission(contract)
    except (ValueError, ShapelyError) as error:
        raise ModelRejected(f"the contract's area is no polygon: {error}") from error


def _prove(version: ModelVersion, golden: Golden, where: str) -> None:
    try:
        outputs = version.session.run(tuple(golden.expected), _golden_feed(version, golden))
    except (JobError, RuntimeError, ValueError, TypeError, KeyError) as error:
        raise ModelRejected(f"{where} cannot be run: {error}") from error
    for name, expected in golden.expected.items():
        got = outputs[name] if golden.body is None else outputs[name][0]
        _compare(f"{where}, output {name}", got, expected, golden)


def _compare(where: str, got: NDArray[np.generic], expected: list[float], golden: Golden) -> None:
    try:
        wanted = np.asarray(expected, dtype=np.float64)
    except ValueError as error:
        raise ModelRejected(f"{where}: the expectation is no rectangular array of numbers") from error
    values = np.asarray(got, dtype=np.float64)
    if got.shape != wanted.shape:
        raise ModelRejected(f"{where}: the shape is {list(got.shape)}, expected {list(wanted.shape)}")
    if not np.allclose(values, wanted, rtol=golden.rtol, atol=golden.atol):
        worst = int(np.argmax(np.nan_to_num(np.abs(values - wanted), nan=np.inf)))
        raise ModelRejected(
            f"{where}: {values.flat[worst]:.6g} where {wanted.flat[worst]:.6g} is expected "
            f"(rtol {golden.rtol:g}, atol {golden.atol:g})"
        )


def _golden_feed(version: ModelVersion, golden: Golden) -> Tensors:
    if golden.tensors is not None:
        bound = version.contract.inputs  # In the graph's own axis order already.
        return {name: np.asarray(golden.tensors[name], dtype=bound[name].dtype) for name in bound}
    try:
        body = base64.b64decode(golden.body or "", validate=True)
    except binascii.Error as error:
        raise ValueError(f"body is no base64: {error}") from error
    recording = read_sigmf(orjson.dumps(golden.sigmf), body)
    version.admission.check(recording)
    capture = decode_capture(recording, 0, version.contract.level)
    seats = version.admission.seat(capture.receivers, recording.channels, lambda: version.plan.powers(capture))
    tensors = version.plan.allocate(1, capture.samples.shape[1])
    version.plan.fill(tensors, 0, Item(capture, seats))
    return version.plan.feed(tensors)
