"""Field tables read in time that grows with their length, to a depth that no sound header has. Pure.

The library copies the rest of a table for each of its entries: 128 KiB of empty ones, which any publisher may send,
hold the event loop up for most of a second, at each delivery.

| tag     | value (AMQP 0-9-1 section 4.2.5, with RabbitMQ's errata)  | read as        |
|---------|-----------------------------------------------------------|----------------|
| t       | one octet                                                 | bool           |
| b B     | 8 bits, signed and unsigned                               | int            |
| s u     | 16 bits, signed and unsigned                              | int            |
| I i     | 32 bits, signed and unsigned                              | int            |
| l L     | 64 bits, signed                                           | int            |
| f d     | IEEE 754, single and double                               | float          |
| D       | octet of decimal places, 32 bits unsigned                 | Decimal        |
| S       | 32 bits of length, then text                              | str, or bytes where it is no UTF-8 |
| x       | 32 bits of length, then bytes                             | bytes          |
| T       | 64 bits, seconds (or, beyond 2106, milliseconds)          | datetime, UTC  |
| A F     | 32 bits of length, then values, or keys and values        | list, dict     |
| V, 0    | nothing                                                   | None           |
"""

import struct
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

MAX_DEPTH: Final = 32
"""Tables and arrays within each other; the deepest header that a broker writes, `x-death`, has 3."""

_LENGTH: Final = struct.Struct(">I")
_DECIMAL: Final = struct.Struct(">BI")
_TIMESTAMP: Final = struct.Struct(">Q")
_FIRST_MILLISECONDS: Final = 2**32
_NUMBERS: Final[dict[int, struct.Struct]] = {
    ord(tag): struct.Struct(">" + code)
    for tag, code in zip("tbBsuIilLfd", ("?", "b", "B", "h", "H", "i", "I", "q", "q", "f", "d"), strict=True)
}
_Read = tuple[Any, int]


def read_table(data: bytes) -> tuple[int, dict[str, Any]]:
    """Read a field table from the beginning of `data`.

    Returns:
        Bytes that it takes, its length included, and its entries; of two under one key the later.

    Raises:
        ValueError: it is longer than `data`, an entry does not end within it, it is nested too deep, a key is no
            UTF-8, or a type is unknown.
        struct.error, OverflowError, OSError: a number is cut short, or an instant lies in no calendar.
    """
    entries, end = _table(data, 0, len(data), 0)
    return end, entries


def _table(data: bytes, start: int, limit: int, depth: int) -> tuple[dict[str, Any], int]:
    at, end = _span(data, start, limit)
    entries: dict[str, Any] = {}
    while at < end:
        key_end = at + 1 + data[at]
        key = data[at + 1 : key_end].decode()
        entries[key], at = _value(data, key_end, end, depth)
    return entries, end


def _array(data: bytes, start: int, limit: int, depth: int) -> tuple[list[Any], int]:
    at, end = _span(data, start, limit)
    values = []
    while at < end:
        value, at = _value(data, at, end, depth)
        values.append(value)
    return values, end


def _value(data: bytes, start: int, limit: int, depth: int) -> _Read:
    """The tagged value at `start`, and where it ends, which is not behind `limit`."""
    if start >= limit:
        raise ValueError("an entry has no value")
    tag = data[start]
    number = _NUMBERS.get(tag)
    if number is not None:
        (value,), end = number.unpack_from(data, start + 1), start + 1 + number.size
    elif tag in _NESTED:
        if depth == MAX_DEPTH:
            raise ValueError(f"tables and arrays are nested more than {MAX_DEPTH} deep")
        value, end = _NESTED[tag](data, start + 1, limit, depth + 1)
    elif tag in _SIMPLE:
        value, end = _SIMPLE[tag](data, start + 1, limit)
    else:
        raise ValueError(f"unknown type {bytes([tag])!r}")
    if end > limit:
        raise ValueError("a value is longer than what it stands in")
    return value, end


def _span(data: bytes, start: int, limit: int) -> tuple[int, int]:
    """First byte and end of what a length in front of it measures."""
    (length,) = _LENGTH.unpack_from(data, start)
    first = start + _LENGTH.size
    if first + length > limit:
        raise ValueError("a length is longer than what it stands in")
    return first, first + length


def _bytes(data: bytes, start: int, limit: int) -> _Read:
    first, end = _span(data, start, limit)
    return data[first:end], end


def _text(data: bytes, start: int, limit: int) -> _Read:
    raw, end = _bytes(data, start, limit)
    try:
        return raw.decode(), end
    except UnicodeDecodeError:
        return raw, end


def _decimal(data: bytes, start: int, _limit: int) -> _Read:
    places, digits = _DECIMAL.unpack_from(data, start)
    return Decimal(digits).scaleb(-places), start + _DECIMAL.size


def _timestamp(data: bytes, start: int, _limit: int) -> _Read:
    (instant,) = _TIMESTAMP.unpack_from(data, start)
    seconds = instant if instant < _FIRST_MILLISECONDS else instant / 1000
    return datetime.fromtimestamp(seconds, UTC), start + _TIMESTAMP.size


def _nothing(_data: bytes, start: int, _limit: int) -> _Read:
    return None, start


_NESTED: Final[dict[int, Callable[[bytes, int, int, int], _Read]]] = {ord("A"): _array, ord("F"): _table}
_SIMPLE: Final[dict[int, Callable[[bytes, int, int], _Read]]] = {
    ord("S"): _text,
    ord("x"): _bytes,
    ord("D"): _decimal,
    ord("T"): _timestamp,
    ord("V"): _nothing,
    0: _nothing,
}
