"""Deliveries taken from the byte stream before the library sees them; all else passes through to it.

The library gives each frame a turn of two tasks and two queues, and copies a body six times on its way. Read here, a
delivery costs one copy, and all that one read of the socket brought are there before the event loop goes on, so that
they can share a batch.

It stands on public ground alone: the library's seam for transports (`aiormq.TransportFactory`), and the frames of AMQP
0-9-1 (sections 2.3.5 and 4.2).
"""

import asyncio
import struct
from collections.abc import Callable
from typing import Any, Final

import aio_pika
from aiormq import TransportFactory
from aiormq.exceptions import AMQPConnectionError, InvalidFrameError
from pamqp.header import ContentHeader
from yarl import URL

from worker.amqp.message import Message

Take = Callable[[Message], None]

_FRAME: Final = struct.Struct(">BHI")
_HEAD_BYTES: Final = _FRAME.size
_FRAME_END: Final = 0xCE
_METHOD, _HEADER, _BODY, _HEARTBEAT = _KINDS = (1, 2, 3, 8)
_HEARTBEAT_FRAME: Final = _FRAME.pack(_HEARTBEAT, 0, 0) + bytes((_FRAME_END,))
_DELIVER: Final = struct.pack(">HH", 60, 60)
_TAG: Final = struct.Struct(">QB")
_SIGN_OF_LIFE_S: Final = 1.0


class DeliveryReader(asyncio.StreamReader):
    """A stream of AMQP frames without the deliveries of one channel, which `take` gets.

    Args:
        loop: that it runs on.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._clock = loop.time
        self._take: Take | None = None
        self._channel = 0
        self._rest = b""
        """Of a frame that has not come in whole, and is read whole."""
        self._passing = 0
        """Bytes to come of a frame that goes to the library."""
        self._body_frame = 0
        """Bytes to come of a body's frame, its end octet included."""
        self._message: Message | None = None
        """The delivery that comes in."""
        self._missing = 0
        """Bytes to come of its body; -1 before its header."""
        self._pieces: list[memoryview] = []
        self._vital_at = 0.0

    def divert(self, channel: int, take: Take) -> None:
        """Take the deliveries of a channel from here on; to be called before it consumes.

        Args:
            channel: its number.
            take: gets each message; must not block or raise.
        """
        self._channel, self._take = channel, take

    def feed_data(self, data: bytes) -> None:  # type: ignore[override]  # What a transport calls it with.
        """Sort what the transport received.

        Raises:
            InvalidFrameError: it is no sequence of frames; the transport closes the connection then.
        """
        view = memoryview(self._rest + data if self._rest else data)
        at, end = 0, len(view)
        passed: list[memoryview | bytes] = []
        while at < end:
            if self._passing:
                piece = view[at : at + self._passing]
                passed.append(piece)
                self._passing -= len(piece)
                at += len(piece)
            elif self._body_frame:
                at += self._body(view[at : at + self._body_frame])
            else:
                begun = self._begin(view[at:])
                if begun is None:
                    break
                at += begun
        self._rest = bytes(view[at:])
        self._show_life(passed)
        if passed:
            super().feed_data(b"".join(passed))

    def _begin(self, view: memoryview) -> int | None:
        """Begin a frame, to be passed on or to be read: bytes that were read; None where too little of it is here."""
        if len(view) < _HEAD_BYTES:
            return None
        kind, channel, length = _FRAME.unpack_from(view)
        size: int = _HEAD_BYTES + length + 1
        if kind not in _KINDS:
            self._passing = len(view)  # No AMQP: the library says what it thinks of it.
        elif channel != self._channel or self._take is None:
            self._passing = size
        elif kind == _BODY and self._message is not None:
            self._expect(length)
            return _HEAD_BYTES
        elif len(view) < size:
            return None
        elif self._deliver(kind, view[_HEAD_BYTES : size - 1]):
            _check_end(view[size - 1])
            return size
        else:
            self._passing = size
        return 0

    def _deliver(self, kind: int, payload: memoryview) -> bool:
        """Read a frame that belongs to a delivery; False where it does not."""
        try:
            if kind == _METHOD and payload[: len(_DELIVER)] == _DELIVER:
                self._message, self._missing = _delivered(bytes(payload)), -1
            elif kind == _HEADER and self._message is not None:
                self._missing = _describe(self._message, bytes(payload))
            else:
                return False
        except (ValueError, LookupError, struct.error) as error:
            raise InvalidFrameError(f"a delivery cannot be read: {error}") from error
        self._complete()
        return True

    def _expect(self, length: int) -> None:
        if length > self._missing:
            raise InvalidFrameError(f"a body's frame of {length} bytes, where {self._missing} were to come")
        self._missing -= length
        self._body_frame = length + 1

    def _body(self, piece: memoryview) -> int:
        """Keep a part of a body's frame; how long it is."""
        self._body_frame -= len(piece)
        if self._body_frame:
            self._pieces.append(piece)
        else:
            _check_end(piece[-1])
            self._pieces.append(piece[:-1])
            self._complete()
        return len(piece)

    def _complete(self) -> None:
        if self._missing or self._message is None or self._take is None:
            return
        message, self._message = self._message, None
        message.body = b"".join(self._pieces)
        self._pieces.clear()
        self._take(message)

    def _show_life(self, passed: list[memoryview | bytes]) -> None:
        """The library gives up a connection on which it sees nothing, so it sees a heartbeat now and then."""
        if self._take is None or self._passing:
            return
        now = self._clock()
        if now - self._vital_at >= _SIGN_OF_LIFE_S:
            self._vital_at = now
            passed.append(_HEARTBEAT_FRAME)


class DivertingConnection(aio_pika.Connection):
    """A connection whose stream is a `DeliveryReader`."""

    def __init__(self, url: URL, **options: Any) -> None:
        super().__init__(url, **options)
        self._factory = _Factory()
        self.kwargs["transport_factory"] = self._factory

    @property
    def reader(self) -> DeliveryReader:
        """Of the connection, once it is open."""
        return self._factory.reader


class _Factory(TransportFactory):
    """What the library does itself (`asyncio.open_connection`), with another reader."""

    reader: DeliveryReader

    async def create(self, url: URL, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        provider = options.pop("ssl_context_provider")
        ssl = await provider.get_context() if url.scheme == "amqps" else None
        self.reader = DeliveryReader(loop)
        protocol = asyncio.StreamReaderProtocol(self.reader, loop=loop)
        try:
            transport, _ = await loop.create_connection(
                lambda: protocol, url.host or "localhost", url.port or 0, ssl=ssl, **options
            )
        except OSError as error:
            raise AMQPConnectionError(*error.args) from error
        return self.reader, asyncio.StreamWriter(transport, protocol, self.reader, loop)


def _delivered(payload: bytes) -> Message:
    """Basic.Deliver: consumer tag, delivery tag, whether redelivered, exchange, routing key."""
    at = len(_DELIVER)
    at += 1 + payload[at]
    tag, redelivered = _TAG.unpack_from(payload, at)
    at += _TAG.size
    at += 1 + payload[at]
    key = payload[at + 1 : at + 1 + payload[at]]
    return Message(tag, bool(redelivered), b"", routing_key=key.decode(errors="replace"))


def _describe(message: Message, payload: bytes) -> int:
    """Read the content header into the message; the length of the body."""
    header = ContentHeader()
    header.unmarshal(payload)
    properties = header.properties
    message.message_id = properties.message_id or None
    message.content_type = properties.content_type or None
    message.correlation_id = properties.correlation_id or None
    message.reply_to = properties.reply_to or None
    message.user_id = properties.user_id or None
    message.headers = properties.headers or {}
    message.timestamp = properties.timestamp
    return header.body_size


def _check_end(octet: int) -> None:
    if octet != _FRAME_END:
        raise InvalidFrameError(f"a frame ends with {octet:#04x}, not with {_FRAME_END:#04x}")
