"""The example on docs/model-contract.md is a contract that a version can be loaded with."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.contract.examples import ROOT, example
from worker.errors import ModelRejected
from worker.serving.contract import METADATA_KEY, ModelContract
from worker.serving.contract_inputs import FEATURE_AXES
from worker.serving.loading import MODEL_NAME, file_digest, load_version
from worker.serving.model import ModelVersion, VersionRecord
from worker.serving.session import SessionOptions

PAGE = "docs/model-contract.md"


def test_the_example_loads_and_reproduces_its_golden_vectors(tmp_path: Path) -> None:
    """Contract, graph and both kinds of golden vectors fit: IQ for one item, tensors with their batch axis."""
    document = example(PAGE, "model-contract")
    assert {"body" in golden for golden in document["golden"]} == {True, False}
    version = load(tmp_path, document)
    assert version.contract.required_samples == document["min_samples"]


@pytest.mark.parametrize("index", [0, 1])
def test_a_golden_vector_with_the_wrong_axes_is_refused(tmp_path: Path, index: int) -> None:
    """IQ with a batch axis, or tensors without, are told apart by their shape."""
    document = example(PAGE, "model-contract")
    golden = document["golden"][index]
    batched = "tensors" in golden
    golden["expected"] = {n: rows[0] if batched else [rows] for n, rows in golden["expected"].items()}
    with pytest.raises(ModelRejected, match="the shape is"):
        load(tmp_path, document)


def test_every_field_is_on_the_page() -> None:
    """The page names each key of the contract, each feature and each column."""
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    definitions = ModelContract.model_json_schema()["$defs"]
    names = {name for part in definitions.values() for name in part.get("properties", {})}
    names |= (
        set(ModelContract.model_fields) | set(FEATURE_AXES) | set(definitions["Column"]["properties"]["name"]["enum"])
    )
    from_geojson = set(definitions["Point"]["properties"])
    assert {name for name in names - from_geojson if f"`{name}" not in page} == set()


def load(directory: Path, document: dict[str, Any]) -> ModelVersion:
    """A version of the example's graph with a contract inside."""
    model = graph()
    helper.set_model_props(model, {METADATA_KEY: json.dumps(document)})
    path = directory / MODEL_NAME
    onnx.save(model, path)
    record = VersionRecord("example", "1", "production", file_digest(path), "", None, 0)
    return load_version(directory, record, SessionOptions(), max_batch_size=4)


def graph() -> onnx.ModelProto:
    """Position = mean of north and east, weighted by the first column; log-variance = that column's mean square."""
    nodes = [
        helper.make_node("Cast", ["signal_mask"], ["absent"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["one", "absent"], ["present"]),
        helper.make_node("Unsqueeze", ["present", "last"], ["weight"]),
        helper.make_node("Gather", ["receiver_features", "first"], ["strength"], axis=2),
        helper.make_node("Mul", ["weight", "strength"], ["pull"]),
        helper.make_node("Mul", ["receiver_features", "pull"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "receivers"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["weight", "receivers"], ["count"], keepdims=0),
        helper.make_node("Max", ["count", "one"], ["at_least_one"]),
        helper.make_node("Div", ["sum", "at_least_one"], ["mean"]),
        helper.make_node("Gather", ["mean", "north_east"], ["position"], axis=1),
        helper.make_node("Gather", ["mean", "first"], ["log_variance"], axis=1),
    ]
    constants = {
        "one": np.float32([1.0]),
        "last": np.array([2], np.int64),
        "receivers": np.array([1], np.int64),
        "north_east": np.array([3, 4], np.int64),
        "first": np.array([0], np.int64),
    }
    return helper.make_model(
        helper.make_graph(
            nodes,
            "example",
            [
                helper.make_tensor_value_info("receiver_features", TensorProto.FLOAT, ["batch", 3, 6]),
                helper.make_tensor_value_info("signal_mask", TensorProto.BOOL, ["batch", 3]),
            ],
            [
                helper.make_tensor_value_info("position", TensorProto.FLOAT, ["batch", 2]),
                helper.make_tensor_value_info("log_variance", TensorProto.FLOAT, ["batch", 1]),
            ],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 14)],
        ir_version=8,
    )
