"""Small ONNX models with contracts, for tests through the real queue. Their answers can be computed by hand."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from schemas.sigmf import Datatype
from worker.dsp.datatypes import decode
from worker.dsp.log_mel import LogMel
from worker.serving.contract import METADATA_KEY, ModelContract

SAMPLE_RATE = 48_000.0
LATITUDE, LONGITUDE = 45.0, 7.6
DEGREES_PER_DB = 1e-3
SIGMA_DEG = 0.01
POISON_ABOVE_DB = 40.0
"""A mean log-mel above this makes the poisonable model fail: samples about 100 times full scale."""


def contract(**changes: Any) -> dict[str, Any]:
    """A contract for `graph`: up to four receivers, any position, absolute degrees."""
    document: dict[str, Any] = {
        "version": "1",
        "sample_rate": SAMPLE_RATE,
        "min_samples": 512,
        "area": [5.0, 43.0, 10.0, 47.0],
        "receivers": {"set": {"max": 4, "keep": "strongest"}, "min_present": 1},
        "inputs": {
            "mel": {
                "feature": "log_mel",
                "axes": ["batch", "receiver", "mel", "frame"],
                "n_fft": 256,
                "hop": 128,
                "n_mels": 16,
                "fmin": -SAMPLE_RATE / 2,
                "fmax": SAMPLE_RATE / 2,
                "sample_rate": SAMPLE_RATE,
                "mel_scale": "linear",
                "power_scale": "1/n_fft",
                "floor": {"kind": "add", "value": 1e-6},
                "receiver_padding": "repeat",
            },
            "mask": {
                "feature": "receiver_mask",
                "dtype": "bool",
                "axes": ["batch", "receiver"],
                "true_means": "present",
            },
        },
        "position": {"output": "position", "frame": "wgs84_deg", "axes": ["latitude", "longitude"]},
        "uncertainty": {"output": "sigma", "kind": "sigma"},
        "card": {"accuracy_m": 100.0, "training_samples": 0},
    }
    return document | changes


def write_model(
    path: Path,
    *,
    latitude: float = LATITUDE,
    poison_above_db: float = POISON_ABOVE_DB,
    golden_error: float = 0.0,
    **changes: Any,
) -> Path:
    """Write a model whose position is (latitude + mean log-mel * 1e-3, LONGITUDE + the same).

    Args:
        path: of the file.
        latitude: tells versions apart in their answers.
        poison_above_db: mean log-mel above which a run fails.
        golden_error: degrees that the golden vector is wrong by.
        changes: of the contract.
    """
    document = contract(**changes)
    document["golden"] = [_golden(document, latitude + golden_error)]
    model = graph(latitude, poison_above_db)
    helper.set_model_props(model, {METADATA_KEY: json.dumps(document)})
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def graph(latitude: float, poison_above_db: float) -> onnx.ModelProto:
    """The graph: mean of the spectrogram, and an index that leaves its table when the mean is too high."""
    nodes = [
        helper.make_node("ReduceMean", ["mel"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Greater", ["mean", "limit"], ["loud"]),
        helper.make_node("Cast", ["loud"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "index"], ["zero"]),
        helper.make_node("Cast", ["mask"], ["present"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["present"], ["share"], axes=[1], keepdims=0),
        helper.make_node("Mul", ["share", "zero"], ["nothing"]),
        helper.make_node("Mul", ["mean", "factor"], ["degrees"]),
        helper.make_node("Add", ["degrees", "nothing"], ["shift"]),
        helper.make_node("Unsqueeze", ["shift", "last"], ["column"]),
        helper.make_node("Add", ["column", "origin"], ["position"]),
        helper.make_node("Shape", ["position"], ["shape"]),
        helper.make_node("Expand", ["sigmas", "shape"], ["sigma"]),
    ]
    constants = {
        "limit": np.float32(poison_above_db),
        "table": np.zeros(1, np.float32),
        "factor": np.float32(DEGREES_PER_DB),
        "last": np.array([1], np.int64),
        "origin": np.array([[latitude, LONGITUDE]], np.float32),
        "sigmas": np.array([[SIGMA_DEG, SIGMA_DEG]], np.float32),
    }
    return helper.make_model(
        helper.make_graph(
            nodes,
            "mean-level",
            [
                helper.make_tensor_value_info("mel", TensorProto.FLOAT, ["batch", 4, 16, "frames"]),
                helper.make_tensor_value_info("mask", TensorProto.BOOL, ["batch", 4]),
            ],
            [
                helper.make_tensor_value_info("position", TensorProto.FLOAT, ["batch", 2]),
                helper.make_tensor_value_info("sigma", TensorProto.FLOAT, ["batch", 2]),
            ],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 14)],
        ir_version=8,
    )


def expected_position(body: bytes, datatype: str, channels: int, latitude: float = LATITUDE) -> tuple[float, float]:
    """What the model answers, computed apart from the worker's pipeline."""
    iq = decode(body, Datatype.parse(datatype), channels)
    mel = LogMel(ModelContract.model_validate(contract()).inputs["mel"].spec)(iq)
    padded = np.concatenate([mel, mel[np.arange(4 - channels) % channels]]) if channels < 4 else mel
    shift = float(padded.mean()) * DEGREES_PER_DB
    return latitude + shift, LONGITUDE + shift


def tone(seed: int = 0, *, n: int = 1024, channels: int = 1, amplitude: float = 0.5) -> bytes:
    """A noisy tone as cf32_le, channels interleaved."""
    rng = np.random.default_rng(seed)
    time = np.arange(n)[:, None]
    clean = np.exp(2j * np.pi * rng.uniform(-0.4, 0.4, channels) * time)
    noise = rng.normal(0, 0.05, (n, channels)) + 1j * rng.normal(0, 0.05, (n, channels))
    return (amplitude * (clean + noise)).astype("<c8").tobytes()


def metadata(channels: int = 1, datatype: str = "cf32_le", **changes: Any) -> dict[str, Any]:
    """SigMF metadata of `tone`."""
    receivers = [
        {"id": f"rx{i}", "geolocation": {"type": "Point", "coordinates": [7.5 + 0.1 * i, 45.0 + 0.05 * i]}}
        for i in range(channels)
    ]
    info = {
        "core:datatype": datatype,
        "core:sample_rate": SAMPLE_RATE,
        "core:version": "1.2.0",
        "core:num_channels": channels,
        "core:extensions": [{"name": "heimdall", "version": "1.0.0", "optional": False}],
        "heimdall:receivers": receivers,
    }
    capture = {"core:sample_start": 0, "core:frequency": 145.5e6, "core:datetime": "2026-01-01T00:00:00.123456789Z"}
    return {"global": info | changes, "captures": [capture], "annotations": []}


def _golden(document: dict[str, Any], latitude: float) -> dict[str, Any]:
    body = tone(1, channels=2)
    spec = ModelContract.model_validate(document).inputs["mel"].spec
    mel = LogMel(spec)(decode(body, Datatype.parse("cf32_le"), 2))
    shift = float(np.concatenate([mel, mel]).mean()) * DEGREES_PER_DB
    sigmf = metadata(2)
    if document["sample_rate"] is not None:
        sigmf["global"]["core:sample_rate"] = document["sample_rate"]
    return {
        "sigmf": sigmf,
        "body": base64.b64encode(body).decode(),
        "expected": {"position": [latitude + shift, LONGITUDE + shift], "sigma": [SIGMA_DEG, SIGMA_DEG]},
    }
