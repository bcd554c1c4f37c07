"""Publishing a batch: all its messages in one write, all its confirms awaited as one.

The library's own `basic_publish` takes a lock, a write, several futures and a timer per message, which for small jobs
costs more than all other work on them. A `Publisher` has a channel to itself: it numbers the messages, writes their
frames, and hears the confirms and returns from the stream (see `worker.amqp.stream`). The library opens and closes the
channel, and sees nothing of what passes on it.
"""

import asyncio
import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import takewhile
from types import MappingProxyType
from typing import Any, Final, NamedTuple
from uuid import uuid4

from aiormq.abc import AbstractChannel
from aiormq.exceptions import AMQPChannelError, InvalidFrameError
from pamqp.encode import field_table

from worker.amqp.receiving import read_properties
from worker.amqp.stream import (
    ACK,
    BASIC,
    BODY,
    FRAME,
    FRAME_END,
    HEADER,
    METHOD,
    MULTIPLE,
    NACK,
    PUBLISH,
    RETURN,
    StreamConnection,
    frame,
)

_DELIVERY_MODE: Final = {False: 1, True: 2}

# AMQP 0-9-1: section 4.2.6.1 for the flags of the properties. The confirms are RabbitMQ's: tag, and the bit multiple.
_CONFIRM: Final = struct.Struct(">4xQB")
_CONTENT: Final = struct.Struct(">HHQH")
_FRAME_MAX: Final = 131_072
"""Where the broker sets no limit, which it tells as 0: what it sets unless told otherwise."""
_FRAME_OVERHEAD: Final = FRAME.size + len(FRAME_END)
_CONTENT_TYPE, _HEADERS, _MODE, _CORRELATION_ID, _MESSAGE_ID = 1 << 15, 1 << 13, 1 << 12, 1 << 10, 1 << 7


class Publication(NamedTuple):
    """A message to publish, and whether somebody must take it."""

    exchange: str
    routing_key: str
    body: bytes
    content_type: str
    mandatory: bool = False
    persistent: bool = False
    correlation_id: str | None = None
    headers: Mapping[str, Any] = MappingProxyType({})


class Publisher:
    """Publishes on a channel that is in confirm mode, and that nobody else publishes on.

    Args:
        connection: of the channel; its stream's diversion is taken.
        channel: opened by the library, nothing published on it yet.
    """

    def __init__(self, connection: StreamConnection, channel: AbstractChannel) -> None:
        self._channel = channel
        self._writer = connection.writer
        self._most = (channel.connection.connection_tune.frame_max or _FRAME_MAX) - _FRAME_OVERHEAD
        self._name = uuid4().hex
        self._tag = 0
        self._open: dict[int, tuple[_Confirms, int]] = {}
        """Messages without a confirm, in the order of their tags: batch, and place in it."""
        self._returned: set[int] = set()
        channel.closing.add_done_callback(self._on_closed)
        connection.reader.divert(channel.number, (ACK, NACK, RETURN), self._hear)

    async def publish(self, publications: Sequence[Publication]) -> list[bool]:
        """Publish, and await the confirms.

        Returns:
            Per message whether it was taken: neither returned for want of a queue nor refused by a full one.

        Raises:
            aiormq.exceptions.AMQPError, ConnectionError: the channel or connection is gone.
        """
        if not publications:
            return []
        if self._channel.is_closed:
            raise AMQPChannelError("the channel is closed")
        first = self._tag + 1
        # What cannot be put into frames raises here: a number that the broker never sees would put all confirms out.
        self._writer.write(b"".join(self._numbered(tag, p) for tag, p in enumerate(publications, first)))
        self._tag += len(publications)
        confirms = _Confirms(len(publications))
        self._open.update((tag, (confirms, tag - first)) for tag in range(first, self._tag + 1))
        try:
            await self._writer.drain()
            await confirms.all
        finally:
            confirms.all.cancel()
        return confirms.taken

    def _numbered(self, tag: int, publication: Publication) -> bytes:
        message_id = f"{self._name}-{tag}" if publication.mandatory else None  # By it a returned message is known.
        return _frames(publication, message_id, self._channel.number, self._most)

    def _hear(self, method: bytes, header: bytes, _body: bytes) -> None:
        if self._channel.is_closed:
            return
        try:
            if method.startswith(RETURN):  # Its confirm is still to come.
                self._returned.add(int(read_properties(header)["message_id"].removeprefix(f"{self._name}-")))
            else:
                self._confirm(*_CONFIRM.unpack_from(method), acked=method.startswith(ACK))
        except (ValueError, LookupError, struct.error) as error:
            raise InvalidFrameError(f"a confirm or return cannot be read: {error!r}") from error

    def _confirm(self, tag: int, bits: int, *, acked: bool) -> None:
        for settled in self._until(tag) if bits & MULTIPLE else [tag]:
            confirms, index = self._open.pop(settled)
            confirms.settle(index, taken=acked and settled not in self._returned)
            self._returned.discard(settled)

    def _until(self, last: int) -> list[int]:
        """Open tags up to one."""
        return list(takewhile(lambda tag: tag <= last, self._open))

    def _on_closed(self, closing: "asyncio.Future[Any]") -> None:
        reason = None if closing.cancelled() else closing.exception()
        error = AMQPChannelError(f"the channel closed before a confirm came: {reason!r}")
        for confirms in {confirms for confirms, _ in self._open.values()}:
            confirms.fail(error)
        self._open.clear()


class _Confirms:
    """What becomes of the messages of a batch; `all` is done when the last one is known."""

    def __init__(self, count: int) -> None:
        self.all: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.taken = [False] * count
        self._missing = count

    def settle(self, index: int, *, taken: bool) -> None:
        """Note one."""
        self.taken[index] = taken
        self._missing -= 1
        if not self._missing and not self.all.done():
            self.all.set_result(None)

    def fail(self, error: Exception) -> None:
        """No more will come."""
        if not self.all.done():
            self.all.set_exception(error)


def _frames(publication: Publication, message_id: str | None, channel: int, most: int) -> bytes:
    """Method, header and body frames (AMQP 0-9-1, sections 2.3.5.1 and 4.2.6); a body is cut to the agreed size.

    Packed here and not by the library's general encoder, which takes four times as long.
    """
    body = publication.body
    method = _method(publication.exchange, publication.routing_key, publication.mandatory)
    parts = [frame(METHOD, channel, method), frame(HEADER, channel, _header(publication, message_id))]
    parts += [frame(BODY, channel, body[start : start + most]) for start in range(0, len(body), most)]
    return b"".join(parts)


@lru_cache(maxsize=1024)
def _method(exchange: str, routing_key: str, mandatory: bool) -> bytes:  # noqa: FBT001 - a cache knows positions best
    """Arguments of Basic.Publish: a reserved short, two short strings, and the bits mandatory and immediate."""
    return b"".join((PUBLISH, b"\0\0", _short(exchange), _short(routing_key), bytes((mandatory,))))


def _header(publication: Publication, message_id: str | None) -> bytes:
    """Class, weight, body size, flags of the properties that are there, and these in the order of their flags."""
    flags = _CONTENT_TYPE | _MODE
    parts = [_short(publication.content_type)]
    if publication.headers:
        flags |= _HEADERS
        parts.append(field_table(dict(publication.headers)))
    parts.append(bytes((_DELIVERY_MODE[publication.persistent],)))
    if publication.correlation_id:
        flags |= _CORRELATION_ID
        parts.append(_short(publication.correlation_id))
    if message_id:
        flags |= _MESSAGE_ID
        parts.append(_short(message_id))
    return _CONTENT.pack(BASIC, 0, len(publication.body), flags) + b"".join(parts)


def _short(text: str) -> bytes:
    """A short string: its length in one octet, and its UTF-8."""
    encoded = text.encode()
    return bytes((len(encoded),)) + encoded
