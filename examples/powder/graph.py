"""The locator as an ONNX graph: the arithmetic of `ensemble`, from log-mel bands to position and Cholesky factor."""

from itertools import count
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from examples.powder.cells import FOLDS
from examples.powder.ensemble import (
    ANCHOR,
    CENTROID_POWERS,
    LEAST_SIGMA_KM,
    LEVEL_OFFSET_DB,
    LEVEL_SCALE_DB,
    NEPER_PER_DB,
    Ensemble,
    Floats,
)

INPUTS: Final = ("log_mel", "receiver_mask")
OUTPUTS: Final = ("position", "cholesky")
OPSET: Final = 17
IR_VERSION: Final = 8
# Σ w² of a periodic Hann window over n_fft: power of a signal to the sum of its |X|²/n_fft over all bins.
_HANN_ENERGY: Final = 0.375
_LEAST_POWER: Final = 1e-13


class _Graph:
    """Nodes and constants by generated names."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._numbers = count()

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"c{next(self._numbers)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def half(self, value: Floats) -> str:
        """A constant held at half precision: half the file."""
        return self("Cast", self.constant(value, np.float16), to=TensorProto.FLOAT)

    def __call__(self, kind: str, *inputs: str, into: str | None = None, **attributes: Any) -> str:
        name = into or f"t{next(self._numbers)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def scaled(self, tensor: str, factor: float, offset: float = 0.0) -> str:
        return self("Add", self("Mul", tensor, self.constant(factor)), self.constant(offset))

    def column(self, tensor: str, index: int) -> str:
        """One of the last axis, which is dropped."""
        return self("Gather", tensor, self.constant(index, np.int64), axis=-1)

    def mean(self, tensor: str) -> str:
        """Over the members."""
        return self("ReduceMean", tensor, axes=[0], keepdims=0)

    def less_group_mean(self, tensor: str, members: int) -> str:
        """Members (M, B) less the mean of their group."""
        grouped = self("Reshape", tensor, self.constant([FOLDS, members // FOLDS, -1], np.int64))
        rest = self("Sub", grouped, self("ReduceMean", grouped, axes=[1], keepdims=1))
        return self("Reshape", rest, self.constant([members, -1], np.int64))

    def stacked(self, *columns: str, into: str | None = None) -> str:
        last = self.constant([-1], np.int64)
        return self("Concat", *(self("Unsqueeze", one, last) for one in columns), into=into, axis=-1)


def build(ensemble: Ensemble, sites_km: Floats, spectrum: tuple[int, float, float, int]) -> onnx.ModelProto:
    """Build the model.

    Args:
        ensemble: trained, and rounded to half precision.
        sites_km: east and north of the receivers (R, 2).
        spectrum: number of bands, mean and standard deviation of their fixed normalisation in dB, and n_fft.

    Returns:
        `log_mel` (B, R, bands, frames) and `receiver_mask` (B, R), 1 = present, to `position` (B, 2) and `cholesky`
        (B, 3): east and north, then l11, l21, l22, all in kilometres.
    """
    bands, mean_db, std_db, n_fft = spectrum
    graph, mask = _Graph(), INPUTS[1]
    level = _level_db(graph, INPUTS[0], mean_db, std_db, n_fft)
    inputs, anchor = _features(graph, level, mask, sites_km)
    _mixture(graph, _networks(graph, ensemble, inputs), anchor, len(ensemble.weights[0]))
    receivers = len(sites_km)
    shapes = {INPUTS[0]: ["batch", receivers, bands, "frames"], INPUTS[1]: ["batch", receivers]}
    answers = {OUTPUTS[0]: ["batch", 2], OUTPUTS[1]: ["batch", 3]}
    body = helper.make_graph(graph.nodes, "powder", _values(shapes), _values(answers), graph.constants)
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def _values(shapes: dict[str, list[Any]]) -> list[onnx.ValueInfoProto]:
    return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]


def _level_db(graph: _Graph, log_mel: str, mean_db: float, std_db: float, n_fft: int) -> str:
    """Level within the band, dB re full scale (B, R): bands summed, frames averaged."""
    power = graph("Exp", graph.scaled(log_mel, std_db * NEPER_PER_DB, mean_db * NEPER_PER_DB))
    of_frames = graph("ReduceMean", power, axes=[3], keepdims=0)
    total = graph("ReduceSum", of_frames, graph.constant([2], np.int64), keepdims=0)
    return graph.scaled(graph("Log", graph.scaled(total, 1.0 / (_HANN_ENERGY * n_fft), _LEAST_POWER)), 1 / NEPER_PER_DB)


def _features(graph: _Graph, level: str, mask: str, sites_km: Floats) -> tuple[str, str]:
    """`ensemble.features`: inputs of the networks (B, inputs), and the centroid that offsets count from (B, 2)."""
    absent = graph.scaled(mask, 1e3, -1e3)
    strongest = graph("ReduceMax", graph("Add", level, absent), axes=[1], keepdims=1)
    relative = graph("Mul", graph("Sub", level, strongest), mask)
    sites, one = graph.constant(sites_km), graph.constant([1], np.int64)
    centroids = []
    for power in CENTROID_POWERS:
        weight = graph("Mul", mask, graph("Exp", graph.scaled(relative, power * NEPER_PER_DB)))
        centroids.append(graph("Div", graph("MatMul", weight, sites), graph("ReduceSum", weight, one, keepdims=1)))
    scaled = graph("Mul", graph.scaled(level, 1 / LEVEL_SCALE_DB, LEVEL_OFFSET_DB / LEVEL_SCALE_DB), mask)
    return graph("Concat", scaled, mask, *centroids, axis=1), centroids[ANCHOR]


def _networks(graph: _Graph, ensemble: Ensemble, inputs: str) -> str:
    """Raw outputs of every member (M, B, 5)."""
    x = graph("Unsqueeze", inputs, graph.constant([0], np.int64))
    for weight, bias in zip(ensemble.weights, ensemble.biases, strict=True):
        x = graph("Add", graph("MatMul", x, graph.half(weight)), graph.half(bias))
        if weight is not ensemble.weights[-1]:
            x = graph("Mul", x, graph("Sigmoid", x))
    return x


def _mixture(graph: _Graph, raw: str, anchor: str, members: int) -> None:
    """`ensemble.gaussians` and their mixture, a group per fold, into the outputs."""
    offset_east, offset_north, raw11, raw22, l21 = (graph.column(raw, index) for index in range(5))
    l11, l22 = (graph.scaled(graph("Softplus", one), 1.0, LEAST_SIGMA_KM) for one in (raw11, raw22))
    east, north = (graph.less_group_mean(one, members) for one in (offset_east, offset_north))

    def moment(*pairs: tuple[str, str]) -> str:
        products = [graph("Mul", a, b) for a, b in pairs]
        return graph.mean(graph("Sum", *products))

    first = graph("Sqrt", moment((l11, l11), (east, east)))
    below = graph("Div", moment((l11, l21), (east, north)), first)
    rest = graph("Sub", moment((l21, l21), (l22, l22), (north, north)), graph("Mul", below, below))
    graph.stacked(first, below, graph("Sqrt", rest), into=OUTPUTS[1])
    graph("Add", anchor, graph.stacked(graph.mean(offset_east), graph.mean(offset_north)), into=OUTPUTS[0])
