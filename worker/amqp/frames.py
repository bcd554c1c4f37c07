"""Properties and headers that cannot be decoded, made harmless.

The broker passes on whatever bytes a publisher puts into a property or header. Who ends the connection over them does
so at each redelivery, and all that is in flight suffers. Decoded leniently, the message comes in, and its envelope is
refused like any other that is not valid.
"""

import struct
from typing import Any, Final

import pamqp.decode

from worker.amqp import tables

UNREADABLE: Final = "heimdall-unreadable"
"""Header that stands for a whole table that could not be read; its value names the reason."""

_TIMESTAMP_BYTES: Final = 8
_LENGTH_BYTES: Final = 4
_FAILURES: Final = (ValueError, TypeError, LookupError, ArithmeticError, OSError, RecursionError, struct.error)

_read_timestamp = pamqp.decode.timestamp


def tolerate_bad_content() -> None:
    """Decode properties and headers leniently, in this process, from now on."""
    pamqp.decode.METHODS |= {"shortstr": read_short_string, "table": read_table, "timestamp": read_timestamp}


def read_short_string(value: bytes) -> tuple[int, str]:
    """Consumed bytes and text; AMQP 0-9-1, section 4.2.5.3: a length octet, then that many octets.

    Bytes that are no UTF-8 become `?`, one octet each as before, so that the text still fits a short string.
    """
    if not value:
        raise ValueError("a short string without its length")
    length = value[0]
    if len(value) <= length:
        raise ValueError(f"a short string of {length} bytes, of which {len(value) - 1} came")
    return length + 1, value[1 : length + 1].decode(errors="replace").replace("\ufffd", "?")


def read_table(value: bytes) -> tuple[int, Any]:
    """Consumed bytes and a field table; one that cannot be read is skipped by its length (section 4.2.5.5)."""
    try:
        return tables.read_table(value)
    except _FAILURES as error:
        length = int.from_bytes(value[:_LENGTH_BYTES], "big")
        return _LENGTH_BYTES + length, {UNREADABLE: type(error).__name__}


def read_timestamp(value: bytes) -> tuple[int, Any]:
    """Consumed bytes and an instant; one that no calendar holds is none."""
    try:
        return _read_timestamp(value)
    except _FAILURES:
        return _TIMESTAMP_BYTES, None
