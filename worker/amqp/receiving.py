"""Deliveries: from a method, a content header and a body to a message (AMQP 0-9-1, sections 1.8.3.13 and 4.2.6.1)."""

import struct
from collections.abc import Callable
from typing import Any, Final

from aiormq.exceptions import InvalidFrameError

from worker.amqp.frames import read_short_string, read_table, read_timestamp
from worker.amqp.message import Message
from worker.amqp.stream import ID_BYTES

_TAG: Final = struct.Struct(">QB")
_FLAGS: Final = struct.Struct(">H")
_FLAGS_AT: Final = 12
_MORE_FLAGS: Final = 1


def _octet(value: bytes) -> tuple[int, int]:
    return 1, value[0]


_PROPERTIES: Final[tuple[tuple[str, Callable[[bytes], tuple[int, Any]]], ...]] = (
    ("content_type", read_short_string),
    ("content_encoding", read_short_string),
    ("headers", read_table),
    ("delivery_mode", _octet),
    ("priority", _octet),
    ("correlation_id", read_short_string),
    ("reply_to", read_short_string),
    ("expiration", read_short_string),
    ("message_id", read_short_string),
    ("timestamp", read_timestamp),
    ("message_type", read_short_string),
    ("user_id", read_short_string),
    ("app_id", read_short_string),
    ("cluster_id", read_short_string),
)
"""In the order of their flags, from the highest bit down."""


def read_delivery_frames(method: bytes, header: bytes, body: bytes) -> Message:
    """A message from what the broker sent of it.

    Args:
        method: payload of Basic.Deliver: consumer tag, delivery tag, whether redelivered, exchange, routing key.
        header: payload of the content header.
        body: whole.

    Raises:
        InvalidFrameError: it is cut short. What a publisher can spoil is read leniently.
    """
    try:
        tag, redelivered, key = _read_arguments(method)
        read = read_properties(header)
    except (ValueError, LookupError, struct.error) as error:
        raise InvalidFrameError(f"a delivery cannot be read: {error}") from error
    return Message(
        tag,
        redelivered,
        body,
        routing_key=key,
        message_id=read.get("message_id") or None,
        content_type=read.get("content_type") or None,
        correlation_id=read.get("correlation_id") or None,
        reply_to=read.get("reply_to") or None,
        user_id=read.get("user_id") or None,
        headers=read.get("headers") or {},
        timestamp=read.get("timestamp"),
    )


def _read_arguments(method: bytes) -> tuple[int, bool, str]:
    at = ID_BYTES
    at += 1 + method[at]
    tag, redelivered = _TAG.unpack_from(method, at)
    at += _TAG.size
    at += 1 + method[at]
    return tag, bool(redelivered), method[at + 1 : at + 1 + method[at]].decode(errors="replace")


def read_properties(header: bytes) -> dict[str, Any]:
    """The properties that a content header has.

    Raises:
        ValueError, LookupError, struct.error: it is cut short.
    """
    (flags,) = _FLAGS.unpack_from(header, _FLAGS_AT)
    at = _FLAGS_AT + _FLAGS.size
    more = flags
    while more & _MORE_FLAGS:  # Of properties that no version of the protocol has.
        (more,) = _FLAGS.unpack_from(header, at)
        at += _FLAGS.size
    found: dict[str, Any] = {}
    bit = 1 << 15
    for name, read in _PROPERTIES:
        if flags & bit:
            size, found[name] = read(header[at:])
            at += size
        bit >>= 1
    if at > len(header):
        raise ValueError("a content header ends within a property")
    return found
