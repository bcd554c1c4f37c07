"""The models of the workloads: small graphs, and one whose weights must be read from memory for every run.

Each answers positions within 30 km of its network's middle and a covariance that is always positive definite; what it
says means nothing. The same seed gives the same file.
"""

import base64
import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bench.recipe import RawJob, Recipe
from examples.features import LOG_MEL_INPUT, MASK_INPUT
from examples.network import NORTHWEST
from worker.serving.contract import METADATA_KEY

SAMPLE_RATE_HZ: Final = 48_000.0
OPSET: Final = 17
SEED: Final = 4
HIDDEN: Final = 64
_MIB: Final = 2**20


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """What a workload's model looks like.

    Attributes:
        receivers: rows of the receiver axis; 7 are the slots of a real-shaped network, fewer are any receivers.
        n_samples: per receiver.
        n_fft, hop, n_mels: of the spectrogram.
        layers: square layers of `width`, which make it heavy; 0 = a light model.
        width: of those layers.
    """

    name: str
    receivers: int
    n_samples: int
    n_fft: int = 256
    hop: int = 128
    n_mels: int = 31
    layers: int = 0
    width: int = HIDDEN

    @property
    def frames(self) -> int:
        """Frames of the spectrogram."""
        return 1 + (self.n_samples - self.n_fft) // self.hop

    @property
    def weight_mib(self) -> float:
        """Of the square layers, float32."""
        return 4 * self.layers * self.width**2 / _MIB


def build(plan: ModelPlan, directory: Path, golden_job: RawJob) -> Path:
    """Write a model with its contract, whose golden vector is what the recipe computes for a job.

    Args:
        plan: of the model.
        directory: the file is `NAME.onnx` in it.
        golden_job: that the golden vector holds.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{plan.name}.onnx"
    document = contract(plan)
    model = graph(plan)
    _write(model, document, path)
    document["golden"] = [_golden(Recipe(path), golden_job)]
    _write(model, document, path)
    return path


def contract(plan: ModelPlan) -> dict[str, Any]:
    """The contract, without golden vectors."""
    latitude, longitude = NORTHWEST.origin
    slots = [
        {"id": s.id, "geolocation": {"type": "Point", "coordinates": [s.longitude_deg, s.latitude_deg, s.altitude_m]}}
        for s in NORTHWEST.sites
    ]
    whole = plan.receivers == len(slots)
    figures = {"n_fft": plan.n_fft, "hop": plan.hop, "n_mels": plan.n_mels}
    mel = LOG_MEL_INPUT | figures | {"frames": {"count": plan.frames}, "sample_rate": SAMPLE_RATE_HZ}
    return {
        "version": "1",
        "sample_rate": SAMPLE_RATE_HZ,
        "min_samples": plan.n_samples,
        "area": NORTHWEST.area_geojson,
        "level": "dbm",
        "receivers": {"slots": slots, "min_present": 3} if whole else {"set": {"max": plan.receivers}},
        "inputs": {"log_mel": mel, "receiver_mask": MASK_INPUT},
        "position": {
            "output": "position",
            "frame": "enu_m",
            "origin": {"latitude": latitude, "longitude": longitude},
            "axes": ["east", "north"],
            "scale": [1000.0, 1000.0],
        },
        "uncertainty": {"output": "cholesky", "kind": "cholesky", "of": "axis"},
        "card": {"data": "none: random weights, for measuring", "licence": "Apache-2.0"},
    }


def graph(plan: ModelPlan) -> onnx.ModelProto:
    """Mean over frames → dense layers → 30·tanh for the position, positive diagonal for the Cholesky factor."""
    rng = np.random.default_rng(SEED)
    constants: dict[str, NDArray[np.generic]] = {"last": np.array([2], np.int64)}
    nodes = [
        helper.make_node("ReduceMean", ["log_mel"], ["bands"], axes=[3], keepdims=0),
        helper.make_node("Unsqueeze", ["receiver_mask", "last"], ["column"]),
        helper.make_node("Mul", ["bands", "column"], ["heard"]),
        helper.make_node("Flatten", ["heard"], ["layer0"]),
    ]
    sizes = [plan.receivers * plan.n_mels, plan.width, *[plan.width] * plan.layers]
    for index, (before, after) in enumerate(pairwise(sizes)):
        nodes += _dense(constants, rng, f"layer{index}", f"layer{index + 1}", before, after)
    nodes += _heads(constants, rng, f"layer{len(sizes) - 1}", sizes[-1])
    shape: list[str | int | None] = ["batch", plan.receivers, plan.n_mels, plan.frames]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            plan.name,
            [
                helper.make_tensor_value_info("log_mel", TensorProto.FLOAT, shape),
                helper.make_tensor_value_info("receiver_mask", TensorProto.FLOAT, ["batch", plan.receivers]),
            ],
            [
                helper.make_tensor_value_info("position", TensorProto.FLOAT, ["batch", 2]),
                helper.make_tensor_value_info("cholesky", TensorProto.FLOAT, ["batch", 3]),
            ],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=8,
    )
    onnx.checker.check_model(model)
    return model


def _dense(
    constants: dict[str, NDArray[np.generic]],
    rng: np.random.Generator,
    source: str,
    target: str,
    before: int,
    after: int,
) -> list[onnx.NodeProto]:
    """A layer with a rectifier."""
    constants[f"{target}_weight"] = (rng.standard_normal((before, after), np.float32) / before**0.5).astype(np.float32)
    constants[f"{target}_bias"] = np.zeros(after, np.float32)
    return [
        helper.make_node("Gemm", [source, f"{target}_weight", f"{target}_bias"], [f"{target}_sum"]),
        helper.make_node("Relu", [f"{target}_sum"], [target]),
    ]


def _heads(
    constants: dict[str, NDArray[np.generic]], rng: np.random.Generator, source: str, width: int
) -> list[onnx.NodeProto]:
    for name, columns in (("place", 2), ("spread", 3)):
        constants[f"{name}_weight"] = (rng.standard_normal((width, columns)) / width**0.5).astype(np.float32)
        constants[f"{name}_bias"] = np.zeros(columns, np.float32)
    # l11 and l22 between 0.5 and 1.5 km, l21 between ±0.5 km.
    constants["reach"] = np.array([30.0], np.float32)
    constants["half"] = np.array([0.5], np.float32)
    constants["least"] = np.array([[1.0, 0.0, 1.0]], np.float32)
    return [
        helper.make_node("Gemm", [source, "place_weight", "place_bias"], ["place"]),
        helper.make_node("Tanh", ["place"], ["bounded"]),
        helper.make_node("Mul", ["bounded", "reach"], ["position"]),
        helper.make_node("Gemm", [source, "spread_weight", "spread_bias"], ["spread"]),
        helper.make_node("Tanh", ["spread"], ["narrow"]),
        helper.make_node("Mul", ["narrow", "half"], ["varied"]),
        helper.make_node("Add", ["varied", "least"], ["cholesky"]),
    ]


def _golden(recipe: Recipe, job: RawJob) -> dict[str, Any]:
    rows = recipe.infer(recipe.features([job]))
    return {
        "sigmf": json.loads(job.sigmf),
        "body": base64.b64encode(job.body).decode(),
        "expected": {name: values[0].tolist() for name, values in rows.items()},
        "rtol": 1e-3,
        "atol": 1e-2,
    }


def _write(model: onnx.ModelProto, document: dict[str, Any], path: Path) -> None:
    helper.set_model_props(model, {METADATA_KEY: json.dumps(document)})
    onnx.save(model, path)
