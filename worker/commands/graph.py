"""The contract against the graph: names, types, ranks and fixed dimensions of everything that goes in and comes out."""

from typing import Final

from worker.commands.findings import Report
from worker.commands.onnx_file import OnnxFile, Size, Tensor
from worker.serving.contract import ModelContract
from worker.serving.contract_inputs import Input, IqInput, LogMelInput, ReceiverFeaturesInput, ReceiverPositionsInput
from worker.serving.outputs import expected_components

CHECK: Final = "graph"
_REAL: Final = ("float32", "float64", "float16")
_PAIR: Final = 2


def match_graph(file: OnnxFile, contract: ModelContract, report: Report) -> None:
    """Report every difference between a contract and its graph."""
    before = len(report.findings)
    graph = {tensor.name: tensor for tensor in file.inputs}
    for name in contract.inputs.keys() - graph.keys():
        report.fail(CHECK, f"the graph has no input {name!r}; it has {_names(file.inputs)}", f"rename inputs/{name}")
    for name in graph.keys() - contract.inputs.keys():
        report.fail(
            CHECK,
            f"nothing feeds the graph's input {graph[name]}",
            f"bind it in inputs/{name}, or export the graph without it",
        )
    for name in contract.inputs.keys() & graph.keys():
        _match_input(name, graph[name], contract, report)
    for name, wanted in _outputs(contract):
        _match_output(name, wanted, file, report)
    if len(report.findings) == before:
        report.ok(CHECK, f"takes {_names(file.inputs)} and gives {_names(file.outputs)}, as the contract says")


def _match_input(name: str, tensor: Tensor, contract: ModelContract, report: Report) -> None:
    bound, where = contract.inputs[name], f"inputs/{name}"
    if bound.dtype != tensor.dtype:
        report.fail(
            CHECK,
            f"{where}/dtype is {bound.dtype}, the graph takes {tensor.dtype}",
            f"write {tensor.dtype!r}, or export it so",
        )
    if tensor.shape is None:
        return
    if len(tensor.shape) != len(bound.axes):
        report.fail(
            CHECK,
            f"{where}/axes are {len(bound.axes)} ({', '.join(bound.axes)}), the graph takes {tensor}",
            "name the graph's axes in their order",
        )
        return
    sizes = axis_sizes(bound, contract.capacity)
    for axis, size in zip(bound.axes, tensor.shape, strict=True):
        _match_axis(where, axis, size, sizes.get(axis), report)


def _match_axis(where: str, axis: str, size: Size, wanted: int | None, report: Report) -> None:
    if not isinstance(size, int):
        return
    if axis == "batch":
        report.fail(
            CHECK,
            f"{where} has a fixed batch of {size} in the graph: jobs could not run together",
            "export with a dynamic batch axis (torch.onnx.export: dynamic_axes={name: {0: 'batch'}})",
        )
    elif wanted is not None and size != wanted:
        report.fail(
            CHECK,
            f"{where}: the axis {axis} is {size} in the graph, {wanted} by the contract",
            f"correct {_SET_BY[axis]}",
        )


_SET_BY: Final = {
    "receiver": "receivers (slots, or set/max)",
    "mel": "n_mels, or the order of axes",
    "frame": "frames/count, or the order of axes",
    "sample": "length, or the order of axes",
    "column": "the number of columns, or the order of axes",
    "iq": "the order of axes: that of i and q is 2",
}


def axis_sizes(bound: Input, capacity: int) -> dict[str, int]:
    """Sizes that a contract gives to the axes of an input."""
    sizes = {"receiver": capacity, "iq": _PAIR}
    match bound:
        case LogMelInput():
            return sizes | {"mel": bound.n_mels} | ({"frame": bound.frames.count} if bound.frames else {})
        case IqInput():
            return sizes | {"sample": bound.length}
        case ReceiverFeaturesInput() | ReceiverPositionsInput():
            return sizes | {"column": len(bound.columns)}
        case _:
            return sizes


def _outputs(contract: ModelContract) -> list[tuple[str, tuple[str, tuple[int, ...]]]]:
    kind = contract.uncertainty.kind
    named = [
        (contract.position.output, ("position", (_PAIR,))),
        (contract.uncertainty.output, (f"uncertainty ({kind})", expected_components(contract))),
    ]
    return [*named, *([(contract.confidence.output, ("confidence", (1,)))] if contract.confidence else [])]


def _match_output(name: str, wanted: tuple[str, tuple[int, ...]], file: OnnxFile, report: Report) -> None:
    what, components = wanted
    tensor = next((tensor for tensor in file.outputs if tensor.name == name), None)
    if tensor is None:
        report.fail(
            CHECK,
            f"the {what} is read from {name!r}, which the graph does not give; it gives {_names(file.outputs)}",
            f"name the right output in {what.split()[0]}/output",
        )
        return
    if tensor.dtype not in _REAL:
        report.fail(CHECK, f"the {what} is {tensor}, which holds no real numbers", "export it as float32")
    got = _components(tensor)
    if got is not None and got not in components:
        report.fail(
            CHECK,
            f"the {what} is {tensor}: {got} numbers per item where {' or '.join(map(str, components))} belong",
            "correct the contract (uncertainty/kind, or the output), or the export",
        )


def _components(tensor: Tensor) -> int | None:
    """Numbers per item; None where the file does not say."""
    if tensor.shape is None or not tensor.shape:
        return None
    number = 1
    for size in tensor.shape[1:]:
        if not isinstance(size, int):
            return None
        number *= size
    return number


def _names(tensors: list[Tensor]) -> str:
    return ", ".join(map(str, tensors)) or "none"
