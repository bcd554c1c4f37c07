"""What an ONNX file says of itself, read without loading it: opset, inputs, outputs, files it refers to.

Reading comes before loading because ONNX Runtime follows a reference to an external file as it loads. Field numbers:
onnx.proto3 of https://github.com/onnx/onnx.
"""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from worker.commands.protobuf import Field, fields, signed, text

Size = int | str | None
"""Of one dimension: fixed, named, or neither."""

DTYPES: Final = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    8: "string",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
    14: "complex64",
    15: "complex128",
    16: "bfloat16",
}
_EXTERNAL: Final = 1
_NODE, _WEIGHT, _INPUT, _OUTPUT, _SPARSE_WEIGHT = 1, 5, 11, 12, 15  # GraphProto
_ATTRIBUTE: Final = 5  # NodeProto
_OPSET_VERSION: Final = 2  # OperatorSetIdProto
_DEFAULT_DOMAINS: Final = ("", "ai.onnx")


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of the graph.

    Attributes:
        shape: None where the file does not say the rank.
    """

    name: str
    dtype: str
    shape: tuple[Size, ...] | None

    def __str__(self) -> str:
        """As `mel_spectrogram float32 [batch, 3, 128, 32]`."""
        sizes = "?" if self.shape is None else ", ".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.name} {self.dtype} [{sizes}]"


@dataclass(slots=True)
class OnnxFile:
    """What a file says of itself.

    Attributes:
        opset: of the standard operators; None where it names none.
        external: names of tensors kept in other files, each with the file.
    """

    ir_version: int = 0
    producer: str = ""
    opset: int | None = None
    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)
    external: list[tuple[str, str]] = field(default_factory=list)


def read_onnx(path: Path) -> OnnxFile:
    """Read a file's structure.

    Raises:
        ValueError: it is no ONNX model.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        if not path.stat().st_size:
            raise ValueError("the file is empty")
        found = _model(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))
    if not found.ir_version or not found.outputs:
        raise ValueError("it has no ir_version, or no graph with outputs")
    return found


def _model(message: memoryview) -> OnnxFile:
    found = OnnxFile()
    for part in fields(message):
        match part.number:
            case 1:
                found.ir_version = part.integer
            case 2:
                found.producer = text(part.content)
            case 7:
                _graph(part.content, found)
            case 8:
                _opset(part.content, found)
            case 14:
                key, value = _entry(part.content)
                found.metadata[key] = value
            case 25:
                found.external += _external_in_nodes(part.content, node_field=7)
    return found


def _graph(message: memoryview, found: OnnxFile) -> None:
    parts = list(fields(message))
    # Up to IR version 3 the weights are listed among the inputs, too.
    weights = {_name(part.content, 8) for part in parts if part.number == _WEIGHT}
    inputs = [_value(part.content) for part in parts if part.number == _INPUT]
    found.inputs = [tensor for tensor in inputs if tensor.name not in weights]
    found.outputs = [_value(part.content) for part in parts if part.number == _OUTPUT]
    found.external += _external_in_graph(message)


def _opset(message: memoryview, found: OnnxFile) -> None:
    version = next((part.integer for part in fields(message) if part.number == _OPSET_VERSION), None)
    if version is not None and _name(message, 1) in _DEFAULT_DOMAINS:
        found.opset = version


def _value(message: memoryview) -> Tensor:
    """ValueInfoProto: name 1, type 2 → tensor_type 1 → elem_type 1, shape 2 → dim 1."""
    dtype, shape = "no tensor", None
    for tensor in _inside(message, 2, 1):
        dtype = "undefined"
        for part in fields(tensor):
            match part.number:
                case 1:
                    dtype = DTYPES.get(part.integer, f"type {part.integer}")
                case 2:
                    shape = tuple(_size(dim.content) for dim in fields(part.content) if dim.number == 1)
    return Tensor(_name(message, 1), dtype, shape)


def _size(message: memoryview) -> Size:
    for part in fields(message):
        match part.number:
            case 1:
                size = signed(part.integer)
                return size if size > 0 else None
            case 2:
                return text(part.content) or None
    return None


def _external_in_graph(message: memoryview) -> list[tuple[str, str]]:
    found = _external_in_nodes(message, node_field=_NODE)
    for part in fields(message):
        if part.number == _WEIGHT:
            found += _external_tensor(part)
        elif part.number == _SPARSE_WEIGHT:
            found += _external_in_sparse(part)
    return found


def _external_in_nodes(message: memoryview, *, node_field: int) -> list[tuple[str, str]]:
    """Constants and inner graphs are attributes of nodes: NodeProto.attribute 5."""
    return [
        entry
        for node in fields(message)
        if node.number == node_field
        for attribute in fields(node.content)
        if attribute.number == _ATTRIBUTE
        for part in fields(attribute.content)
        for entry in _external_in_attribute(part)
    ]


def _external_in_attribute(part: Field) -> list[tuple[str, str]]:
    """AttributeProto: t 5, tensors 10, g 6, graphs 11, sparse_tensor 22, sparse_tensors 23."""
    if part.number in {5, 10}:
        return _external_tensor(part)
    if part.number in {6, 11}:
        return _external_in_graph(part.content)
    return _external_in_sparse(part) if part.number in {22, 23} else []


def _external_in_sparse(part: Field) -> list[tuple[str, str]]:
    return [entry for inner in fields(part.content) if inner.number in {1, 2} for entry in _external_tensor(inner)]


def _external_tensor(tensor: Field) -> list[tuple[str, str]]:
    """TensorProto: name 8, external_data 13 (key 1, value 2), data_location 14."""
    entries, name, external = {}, "", False
    for part in fields(tensor.content):
        match part.number:
            case 8:
                name = text(part.content)
            case 13:
                key, value = _entry(part.content)
                entries[key] = value
            case 14:
                external = part.integer == _EXTERNAL
    return [(name, entries.get("location", "a file it does not name"))] if external or entries else []


def _inside(message: memoryview, *numbers: int) -> Iterator[memoryview]:
    if not numbers:
        yield message
        return
    for part in fields(message):
        if part.number == numbers[0]:
            yield from _inside(part.content, *numbers[1:])


def _name(message: memoryview, number: int) -> str:
    return next((text(part.content) for part in fields(message) if part.number == number), "")


def _entry(message: memoryview) -> tuple[str, str]:
    """StringStringEntryProto."""
    return _name(message, 1), _name(message, 2)
