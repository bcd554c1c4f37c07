"""The byte stream of a connection: what the worker reads and writes itself, beside the library that owns the rest.

The library gives each frame a turn of two tasks and two queues, copies a body six times on its way, and hands each
confirm to its message in a turn of its own. Read here, a delivery costs one copy, a confirm next to nothing, and all
that one read of the socket brought is there before the event loop goes on.

It stands on public ground alone: the library's seam for transports (`aiormq.TransportFactory`), and the frames of AMQP
0-9-1 (sections 2.3.5 and 4.2). Both sides write whole frames, so they may write in turns.
"""

import asyncio
import struct
from collections.abc import Callable, Collection
from typing import Any, Final

import aio_pika
from aiormq import TransportFactory
from aiormq.exceptions import AMQPConnectionError, InvalidFrameError
from yarl import URL

Take = Callable[[bytes, bytes, bytes], None]
"""Gets the payload of a method's frame, and of one that carries content the content header's payload and the body.

It must not block. `InvalidFrameError` ends the connection.
"""

BASIC: Final = 60
"""The class of all methods here, and of content headers."""
PUBLISH, RETURN, DELIVER, ACK, NACK = (struct.pack(">HH", BASIC, method) for method in (40, 50, 60, 80, 120))
"""First octets of the methods' payloads: class and method."""
ID_BYTES: Final = 4
"""How many they are."""
METHOD, HEADER, BODY = 1, 2, 3
FRAME: Final = struct.Struct(">BHI")
"""Head of a frame: type, channel, length of the payload."""
FRAME_END: Final = b"\xce"

_HEARTBEAT: Final = 8
_KINDS: Final = (METHOD, HEADER, BODY, _HEARTBEAT)
_HEAD_BYTES: Final = FRAME.size
_HEARTBEAT_FRAME: Final = FRAME.pack(_HEARTBEAT, 0, 0) + FRAME_END
_BODY_SIZE: Final = struct.Struct(">4xQ")
_SETTLE: Final = struct.Struct(">QB")
"""Arguments of Basic.Ack and Basic.Nack: delivery tag, and bits."""
MULTIPLE: Final = 1
"""The bit by which a tag stands for all up to it."""
_REQUEUE: Final = 2
_WITH_CONTENT: Final = (RETURN, DELIVER)
_SIGN_OF_LIFE_S: Final = 1.0


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    """A whole frame."""
    return b"".join((FRAME.pack(kind, channel, len(payload)), payload, FRAME_END))


def ack_frame(channel: int, delivery_tag: int, multiple: bool) -> bytes:  # noqa: FBT001 - as the ledger says it
    """Basic.Ack: of one delivery, or of all up to it."""
    return frame(METHOD, channel, ACK + _SETTLE.pack(delivery_tag, MULTIPLE if multiple else 0))


def requeue_frame(channel: int, delivery_tag: int) -> bytes:
    """Basic.Nack of one delivery, which goes back to the queue."""
    return frame(METHOD, channel, NACK + _SETTLE.pack(delivery_tag, _REQUEUE))


class FrameReader(asyncio.StreamReader):
    """A stream of AMQP frames without some methods of one channel, which `take` gets.

    Args:
        loop: that it runs on.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._clock = loop.time
        self._take: Take | None = None
        self._methods: Collection[bytes] = ()
        self._channel = 0
        self._rest = b""
        """Of a frame that has not come in whole, and is read whole."""
        self._passing = 0
        """Bytes to come of a frame that goes to the library."""
        self._body_frame = 0
        """Bytes to come of a body's frame, its end octet included."""
        self._method = b""
        """The method whose content comes in."""
        self._header = b""
        self._missing = 0
        """Bytes to come of its body."""
        self._pieces: list[memoryview] = []
        self._vital_at = 0.0

    def divert(self, channel: int, methods: Collection[bytes], take: Take) -> None:
        """Take methods of a channel from here on; to be called before the broker can send them.

        Args:
            channel: its number.
            methods: of this module's.
            take: gets each.
        """
        self._channel, self._methods, self._take = channel, methods, take

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
        kind, channel, length = FRAME.unpack_from(view)
        size: int = _HEAD_BYTES + length + 1
        if kind not in _KINDS:
            self._passing = len(view)  # No AMQP: the library says what it thinks of it.
        elif channel != self._channel or self._take is None:
            self._passing = size
        elif kind == BODY and self._method:
            self._expect(length)
            return _HEAD_BYTES
        elif len(view) < size:
            return None
        elif self._is_ours(kind, view):
            _check_end(view[size - 1])
            self._read(kind, bytes(view[_HEAD_BYTES : size - 1]))
            return size
        else:
            self._passing = size
        return 0

    def _is_ours(self, kind: int, view: memoryview) -> bool:
        if kind == METHOD:
            return bytes(view[_HEAD_BYTES : _HEAD_BYTES + ID_BYTES]) in self._methods
        return kind == HEADER and bool(self._method)

    def _read(self, kind: int, payload: bytes) -> None:
        """Read a whole frame of a method, or of its content's header."""
        if kind == METHOD:
            if self._method:
                raise InvalidFrameError("a method within the content of another")
            if payload[:ID_BYTES] in _WITH_CONTENT:
                self._method, self._header = payload, b""
            else:
                self._give(payload, b"", b"")
            return
        if len(payload) < _BODY_SIZE.size:
            raise InvalidFrameError(f"a content header of {len(payload)} bytes")
        self._header = payload
        (self._missing,) = _BODY_SIZE.unpack_from(payload)
        self._complete()

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
        if self._missing:
            return
        method, self._method = self._method, b""
        body = b"".join(self._pieces)
        self._pieces.clear()
        self._give(method, self._header, body)

    def _give(self, method: bytes, header: bytes, body: bytes) -> None:
        assert self._take is not None
        self._take(method, header, body)

    def _show_life(self, passed: list[memoryview | bytes]) -> None:
        """The library gives up a connection on which it sees nothing, so it sees a heartbeat now and then."""
        if self._take is None or self._passing:
            return
        now = self._clock()
        if now - self._vital_at >= _SIGN_OF_LIFE_S:
            self._vital_at = now
            passed.append(_HEARTBEAT_FRAME)


class StreamConnection(aio_pika.Connection):
    """A connection whose stream can be read and written beside the library."""

    def __init__(self, url: URL, **options: Any) -> None:
        super().__init__(url, **options)
        self._factory = _Factory()
        self.kwargs["transport_factory"] = self._factory

    @property
    def reader(self) -> FrameReader:
        """Of the connection, once it is open."""
        return self._factory.reader

    @property
    def writer(self) -> asyncio.StreamWriter:
        """Of the connection, once it is open; takes whole frames."""
        return self._factory.writer


class _Factory(TransportFactory):
    """What the library does itself (`asyncio.open_connection`), with another reader."""

    reader: FrameReader
    writer: asyncio.StreamWriter

    async def create(self, url: URL, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        provider = options.pop("ssl_context_provider")
        ssl = await provider.get_context() if url.scheme == "amqps" else None
        self.reader = FrameReader(loop)
        protocol = asyncio.StreamReaderProtocol(self.reader, loop=loop)
        try:
            transport, _ = await loop.create_connection(
                lambda: protocol, url.host or "localhost", url.port or 0, ssl=ssl, **options
            )
        except OSError as error:
            raise AMQPConnectionError(*error.args) from error
        self.writer = asyncio.StreamWriter(transport, protocol, self.reader, loop)
        return self.reader, self.writer


def _check_end(octet: int) -> None:
    if octet != FRAME_END[0]:
        raise InvalidFrameError(f"a frame ends with {octet:#04x}, not with {FRAME_END[0]:#04x}")
