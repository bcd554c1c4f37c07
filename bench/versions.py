"""Versions of the demo model that tell themselves apart: each answers a little further east than the one before."""

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import helper, numpy_helper

from worker.serving.contract import METADATA_KEY

STEP_M: Final = 200.0
"""Between the answers of neighbouring versions; the same version repeats its answer to the centimetre."""
_ORIGINAL: Final = "unshifted"


def write_shifted(source: Path, target: Path, number: int) -> Path:
    """Write a copy of a model that answers `number` steps further east.

    Args:
        source: a model whose contract has positions in metres from an origin, east first.
        target: the file to write.
        number: of steps.
    """
    model = onnx.load(source)
    contract = json.loads(next(entry.value for entry in model.metadata_props if entry.key == METADATA_KEY))
    position = contract["position"]
    shift = [number * STEP_M / position["scale"][0], 0.0]
    for golden in contract["golden"]:
        golden["expected"][position["output"]][0] += shift[0]
    _add(model.graph, position["output"], shift)
    helper.set_model_props(model, {METADATA_KEY: json.dumps(contract)})
    onnx.save(model, target)
    return target


def origin_of(source: Path) -> tuple[float, float]:
    """Latitude and longitude from which a model's positions are counted."""
    model = onnx.load(source)
    contract: dict[str, Any] = json.loads(next(e.value for e in model.metadata_props if e.key == METADATA_KEY))
    origin = contract["position"]["origin"]
    return origin["latitude"], origin["longitude"]


def _add(graph: onnx.GraphProto, output: str, shift: list[float]) -> None:
    for node in graph.node:
        node.output[:] = [_ORIGINAL if name == output else name for name in node.output]
        node.input[:] = [_ORIGINAL if name == output else name for name in node.input]
    graph.initializer.append(numpy_helper.from_array(np.array([shift], np.float32), "shift"))
    graph.node.append(helper.make_node("Add", [_ORIGINAL, "shift"], [output]))
