"""Small ONNX graphs with their contracts, for unit tests of loading, sessions and results.

Every graph reads a log-mel spectrogram and a mask and answers

    position = POSITION + mean(spectrogram) · SLOPE,  uncertainty = constants

so that its answers can be computed by hand. `Shape` says in what a graph differs from that.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from worker.serving.contract import METADATA_KEY, ModelContract
from worker.serving.inputs import FeaturePlan
from worker.serving.items import Item
from worker.serving.loading import load_version
from worker.serving.model import ModelVersion, VersionRecord
from worker.serving.seating import Seats
from worker.serving.session import SessionOptions

OPSET = 17
SAMPLE_RATE = 48_000.0
RECEIVERS, MELS, FRAMES = 3, 8, 4
MIN_SAMPLES = 160
POSITION = (45.0, 7.6)
SLOPE = (1e-3, 2e-3)
SIGMA_DEG = (0.01, 0.02)

MEL_AXES = ["batch", "receiver", "mel", "frame"]


@dataclass(frozen=True)
class Shape:
    """What a graph looks like.

    Attributes:
        uncertainty: the constants it answers, one per component.
        position: its constant part.
        mel, mask: names of its inputs; no mask input where that is empty.
        mel_type, mel_shape: of the spectrogram.
        fails_above: mean of an item's spectrogram above which a run fails; None = never.
        fails_from_batch: number of items from which a run fails; None = never.
        confidence: a further output with this constant; None = there is none.
        position_columns: of the position output.
    """

    uncertainty: Sequence[float] = SIGMA_DEG
    position: Sequence[float] = POSITION
    mel: str = "mel"
    mask: str = "mask"
    mel_type: int = TensorProto.FLOAT
    mel_shape: Sequence[str | int] = ("batch", RECEIVERS, MELS, FRAMES)
    fails_above: float | None = None
    fails_from_batch: int | None = None
    confidence: float | None = None
    position_columns: int = 2


LINEAR = Shape()
ANSWERS_NAN = Shape(position=(float("nan"), 7.6))


def graph(shape: Shape = LINEAR) -> onnx.ModelProto:
    """The graph of a shape."""
    constants: dict[str, Any] = {
        "slope": np.array([SLOPE], np.float32),
        "constant": np.array([shape.position], np.float32),
        "uncertain": np.array([shape.uncertainty], np.float32),
        "nothing": np.zeros((1, len(shape.uncertainty)), np.float32),
        "last": np.array([1], np.int64),
        "repeat": np.array([1, shape.position_columns // 2], np.int64),
    }
    axes = list(range(1, len(shape.mel_shape)))
    nodes = [
        helper.make_node("Cast", [shape.mel], ["single"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["single"], ["mean"], axes=axes, keepdims=0),
        *_failing(shape, constants),
        helper.make_node("Unsqueeze", ["safe", "last"], ["column"]),
        helper.make_node("Mul", ["column", "slope"], ["moved"]),
        helper.make_node("Add", ["moved", "constant"], ["two"]),
        helper.make_node("Tile", ["two", "repeat"], ["position"]),
        helper.make_node("Mul", ["column", "nothing"], ["none"]),
        helper.make_node("Add", ["none", "uncertain"], ["uncertainty"]),
    ]
    outputs = {"position": shape.position_columns, "uncertainty": len(shape.uncertainty)}
    if shape.confidence is not None:
        constants |= {"sure": np.array([[shape.confidence]], np.float32), "zero": np.zeros((1, 1), np.float32)}
        nodes += [
            helper.make_node("Mul", ["column", "zero"], ["zeros"]),
            helper.make_node("Add", ["zeros", "sure"], ["confidence"]),
        ]
        outputs["confidence"] = 1
    inputs = [helper.make_tensor_value_info(shape.mel, shape.mel_type, list(shape.mel_shape))]
    if shape.mask:
        inputs.append(helper.make_tensor_value_info(shape.mask, TensorProto.BOOL, ["batch", RECEIVERS]))
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "linear",
            inputs,
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", columns])
                for name, columns in outputs.items()
            ],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=8,
    )
    onnx.checker.check_model(model)
    return model


def _failing(shape: Shape, constants: dict[str, Any]) -> list[onnx.NodeProto]:
    """Nodes from `mean` to `safe`: the same number, or an index outside its table."""
    if shape.fails_above is not None:
        constants |= {"limit": np.float32(shape.fails_above), "table": np.zeros(1, np.float32)}
        return [
            helper.make_node("Greater", ["mean", "limit"], ["over"]),
            helper.make_node("Cast", ["over"], ["index"], to=TensorProto.INT64),
            helper.make_node("Gather", ["table", "index"], ["found"]),
            helper.make_node("Add", ["mean", "found"], ["safe"]),
        ]
    if shape.fails_from_batch is not None:
        constants |= {"table": np.zeros(shape.fails_from_batch, np.float32)}
        return [
            helper.make_node("Shape", ["mean"], ["items"]),
            helper.make_node("Gather", ["table", "items"], ["found"]),
            helper.make_node("Add", ["mean", "found"], ["safe"]),
        ]
    return [helper.make_node("Identity", ["mean"], ["safe"])]


def contract(**changes: Any) -> dict[str, Any]:
    """The contract of `LINEAR`, without golden vectors; `changes` replace whole fields."""
    document: dict[str, Any] = {
        "version": "1",
        "sample_rate": SAMPLE_RATE,
        "min_samples": MIN_SAMPLES,
        "area": [5.0, 43.0, 10.0, 47.0],
        "receivers": {"set": {"max": RECEIVERS, "keep": "strongest"}, "min_present": 1},
        "inputs": {"mel": mel_input(), "mask": mask_input()},
        "position": {"output": "position", "frame": "wgs84_deg", "axes": ["latitude", "longitude"]},
        "uncertainty": {"output": "uncertainty", "kind": "sigma"},
        "card": {"accuracy": 1500.0, "training_samples": 12, "licence": "none"},
    }
    return document | changes


def mel_input(**changes: Any) -> dict[str, Any]:
    """The spectrogram of `LINEAR`."""
    document: dict[str, Any] = {
        "feature": "log_mel",
        "axes": MEL_AXES,
        "n_fft": 64,
        "hop": 32,
        "n_mels": MELS,
        "fmin": -SAMPLE_RATE / 2,
        "fmax": SAMPLE_RATE / 2,
        "sample_rate": SAMPLE_RATE,
        "mel_scale": "linear",
        "power_scale": "1/n_fft",
        "floor": {"kind": "add", "value": 1e-6},
        "frames": {"count": FRAMES},
        "receiver_padding": "repeat",
    }
    return document | changes


def mask_input(**changes: Any) -> dict[str, Any]:
    """The mask of `LINEAR`."""
    document: dict[str, Any] = {
        "feature": "receiver_mask",
        "dtype": "bool",
        "axes": ["batch", "receiver"],
        "true_means": "present",
    }
    return document | changes


def tone(seed: int = 0, *, n: int = 256, channels: int = 1, amplitude: float = 0.5) -> bytes:
    """Noisy tones as cf32_le, channels interleaved."""
    rng = np.random.default_rng(seed)
    clean = np.exp(2j * np.pi * rng.uniform(-0.4, 0.4, channels) * np.arange(n)[:, None])
    noise = rng.normal(0, 0.05, (n, channels)) + 1j * rng.normal(0, 0.05, (n, channels))
    return (amplitude * (clean + noise)).astype("<c8").tobytes()


def receivers(n: int, **fields: Any) -> list[dict[str, Any]]:
    """Receivers `rx0`, `rx1`, …, ten kilometres apart."""
    return [
        {"id": f"rx{i}", "geolocation": {"type": "Point", "coordinates": [7.5 + 0.1 * i, 45.0 + 0.05 * i]}} | fields
        for i in range(n)
    ]


def metadata(channels: int = 1, **changes: Any) -> dict[str, Any]:
    """SigMF metadata of `tone`."""
    info: dict[str, Any] = {
        "core:datatype": "cf32_le",
        "core:sample_rate": SAMPLE_RATE,
        "core:num_channels": channels,
        "core:extensions": [{"name": "heimdall", "version": "1.0.0", "optional": False}],
        "heimdall:receivers": receivers(channels),
    }
    capture = {"core:frequency": 145.5e6, "core:datetime": "2026-01-01T00:00:00.123456789Z"}
    return {"global": info | changes, "captures": [capture]}


def iq_golden(document: dict[str, Any], shape: Shape = LINEAR, channels: int = 2) -> dict[str, Any]:
    """A golden vector on IQ level, its expected answer by numpy."""
    body = tone(1, channels=channels)
    iq = np.frombuffer(body, "<c8").reshape(-1, channels).T.copy()
    plan = FeaturePlan(ModelContract.model_validate(document))
    tensors = plan.allocate(1, iq.shape[1])
    seats = Seats((*range(channels), *[-1] * (RECEIVERS - channels)), (), None)
    capture = _Capture(iq)
    plan.fill(tensors, 0, Item(capture, seats))  # type: ignore[arg-type]
    mean = float(tensors[shape.mel].astype(np.float64).mean())
    return {
        "sigmf": metadata(channels),
        "body": base64.b64encode(body).decode(),
        "expected": {"position": answer(mean, shape), "uncertainty": list(shape.uncertainty)},
    }


def tensor_golden(shape: Shape = LINEAR, level: float = -20.0) -> dict[str, Any]:
    """A golden vector on tensor level."""
    mel = np.full([1, *(n for n in shape.mel_shape if isinstance(n, int))], level)
    tensors = {shape.mel: mel.tolist()} | ({shape.mask: [[True] * RECEIVERS]} if shape.mask else {})
    return {
        "tensors": tensors,
        "expected": {"position": [answer(level, shape)], "uncertainty": [list(shape.uncertainty)]},
    }


def answer(mean: float, shape: Shape = LINEAR) -> list[float]:
    """The position output for a mean of the spectrogram."""
    return [constant + mean * slope for constant, slope in zip(shape.position, SLOPE, strict=True)]


def write(directory: Path, shape: Shape = LINEAR, *, inside: Any = None, beside: Any = None) -> VersionRecord:
    """Write `model.onnx`, with a contract inside or beside it, and say what a registry would say of it.

    Args:
        directory: that holds the model.
        shape: of the graph.
        inside: contract in the file's metadata: a document, or text.
        beside: contract as a file of its own: a document, or text.
    """
    model = graph(shape)
    if inside is not None:
        helper.set_model_props(model, {METADATA_KEY: inside if isinstance(inside, str) else json.dumps(inside)})
    onnx.save(model, directory / "model.onnx")
    if beside is not None:
        (directory / "contract.json").write_text(beside if isinstance(beside, str) else json.dumps(beside))
    return record("sha256:" + hashlib.sha256((directory / "model.onnx").read_bytes()).hexdigest())


def record(digest: str | None, **changes: Any) -> VersionRecord:
    """What a registry says of a version."""
    plain = VersionRecord(
        name="heimdall",
        version="7",
        alias="production",
        digest=digest,
        source="models:/heimdall/7",
        run_id="r",
        created_ms=1_700_000_000_000,
        metrics={"accuracy": 99.0},
    )
    return replace(plain, **changes)


def load(directory: Path, shape: Shape = LINEAR, *, version: str = "7", **changes: Any) -> ModelVersion:
    """A loaded version of a shape; `changes` are the contract's."""
    document = contract(**changes)
    written = replace(write(directory, shape, beside=document), version=version)
    return load_version(directory, written, SessionOptions(), max_batch_size=2, require_golden=False)


@dataclass(frozen=True)
class _Capture:
    samples: Any
    receivers: tuple[Any, ...] = ()
    sample_rate: float = SAMPLE_RATE
    center_frequency_hz: float | None = None
    clipped: bool = False
    level: str = "dbfs"
