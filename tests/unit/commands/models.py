"""Models that each fail at one check, and the report on them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tests.support.graphs import LINEAR, Shape, contract, iq_golden, tensor_golden, write
from worker.commands.candidate import Candidate
from worker.commands.examine import examine
from worker.commands.findings import Finding, Report, Status
from worker.serving.rollout import VersionRecord

ABSOLUTE = {"rtol": 0.0, "atol": 1e-4}
"""A tolerance in degrees that is worth something: 11 m."""

Change = Callable[[onnx.ModelProto], Any]


def proven(shape: Shape = LINEAR, **changes: Any) -> dict[str, Any]:
    """The contract of a shape with golden vectors of both kinds, which it meets."""
    document = contract(**changes)
    document["golden"] = [iq_golden(document, shape) | ABSOLUTE, tensor_golden(shape) | ABSOLUTE]
    return document


def report_on(
    directory: Path,
    shape: Shape = LINEAR,
    document: Any = None,
    *,
    change: Change | None = None,
    version: VersionRecord | None = None,
    max_batch: int = 4,
) -> Report:
    """The report on a shape with a contract beside it.

    Args:
        directory: for the files.
        shape: of the graph.
        document: the contract: a document, or text; by default one that it meets.
        change: made to the graph.
        version: what a registry says of it.
        max_batch: largest batch.
    """
    write(directory, shape, beside=proven(shape) if document is None else document)
    model = directory / "model.onnx"
    if change is not None:
        changed = onnx.load(model)
        change(changed)
        onnx.save(changed, model)
    return examine(Candidate(model.name, model, directory / "contract.json", version), max_batch)


def failures(report: Report) -> list[tuple[str, str]]:
    """(check, what was found) of every check that failed."""
    return [(finding.check, finding.found) for finding in report.findings if finding.status is Status.FAIL]


def only(report: Report, check: str) -> Finding:
    """The one finding of a check."""
    found = [finding for finding in report.findings if finding.check == check]
    assert len(found) == 1, found
    return found[0]


def statuses(report: Report) -> dict[str, str]:
    """Check → status of its last finding."""
    return {finding.check: str(finding.status) for finding in report.findings}


def against_the_batch(model: onnx.ModelProto) -> None:
    """Let an item's answer depend on the mean of its batch, as batch statistics in training mode do."""
    _before_column(
        model,
        helper.make_node("ReduceMean", ["safe"], ["batch_mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["safe", "batch_mean"], ["about"]),
        answer="about",
    )


def nan_in_silence(model: onnx.ModelProto) -> None:
    """Let the answer to an item without any power be no number: the root of a negative one."""
    _constant(model, "barely", np.float32(59.9))
    _constant(model, "zero", np.float32(0))
    _before_column(
        model,
        helper.make_node("Add", ["safe", "barely"], ["over"]),
        helper.make_node("Sqrt", ["over"], ["root"]),
        helper.make_node("Mul", ["root", "zero"], ["nothing_or_nan"]),
        helper.make_node("Add", ["safe", "nothing_or_nan"], ["about"]),
        answer="about",
    )


def unknown_operator(model: onnx.ModelProto) -> None:
    """Let a node be of a domain that no runtime has."""
    model.graph.node[0].op_type = "Locate"
    model.graph.node[0].domain = "nobody"
    model.opset_import.append(helper.make_opsetid("nobody", 1))


def one_item_only(model: onnx.ModelProto) -> None:
    """Fix the batch of the first input, as an export without dynamic axes does."""
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def second_input(model: onnx.ModelProto) -> None:
    """Add an input that no contract feeds."""
    model.graph.input.append(helper.make_tensor_value_info("temperature", onnx.TensorProto.FLOAT, ["batch"]))


def dies(found: Candidate, max_batch: int) -> Report:
    """In place of `examine`: the process is gone, as with a native crash."""
    os.abort()


def _constant(model: onnx.ModelProto, name: str, value: Any) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))


def _before_column(model: onnx.ModelProto, *nodes: onnx.NodeProto, answer: str) -> None:
    """Put nodes between the mean and the column that the outputs are made of."""
    index = next(i for i, node in enumerate(model.graph.node) if node.output[0] == "column")
    model.graph.node[index].input[0] = answer
    for node in reversed(nodes):
        model.graph.node.insert(index, node)
