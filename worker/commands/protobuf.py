"""The wire format of Protocol Buffers, as far as an ONNX file needs it: fields of a message, one after the other.

Contents are skipped, not copied, so that a file of gigabytes is read in the time its structure takes.
https://protobuf.dev/programming-guides/encoding/
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FIXED_BYTES: Final = {_FIXED64: 8, _FIXED32: 4}
_MAX_VARINT_BYTES: Final = 10
_CONTINUES: Final = 0x80
_SIGN: Final = 1 << 63


class Field(NamedTuple):
    """One field.

    Attributes:
        number: which.
        integer: its value where it is a varint, else 0.
        content: its bytes where it has a length or a fixed size, else empty.
    """

    number: int
    integer: int
    content: memoryview


def fields(message: memoryview) -> Iterator[Field]:
    """The fields of a message.

    Raises:
        ValueError: this is no message.
    """
    nothing = message[:0]
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, position = _varint(message, position)
            yield Field(number, value, nothing)
            continue
        size, position = _size(message, position, kind)
        if number == 0 or position + size > len(message):
            raise ValueError(f"a field ends beyond byte {len(message)}, the end of what holds it")
        yield Field(number, 0, message[position : position + size])
        position += size


def signed(value: int) -> int:
    """A varint as int64."""
    return value - (_SIGN << 1) if value >= _SIGN else value


def text(content: memoryview) -> str:
    """A string field; what is no UTF-8 is replaced."""
    return bytes(content).decode("utf-8", "replace")


def _size(message: memoryview, position: int, kind: int) -> tuple[int, int]:
    if kind == _LENGTH:
        return _varint(message, position)
    if kind not in _FIXED_BYTES:
        raise ValueError(f"byte {position} holds a field of the unknown kind {kind}")
    return _FIXED_BYTES[kind], position


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(message[position : position + _MAX_VARINT_BYTES]):
        value |= (byte & ~_CONTINUES) << (7 * index)
        if not byte & _CONTINUES:
            return value, position + index + 1
    raise ValueError(f"byte {position} begins a number that does not end")
