"""AMQP 0-9-1 frames in a stream of bytes, read as far as the fault suite needs. Pure.

Specification 4.2.3: type (1 octet), channel (2), size (4), payload, end octet. A method's payload begins with its
class (2) and method (2).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

METHOD: Final = 1
HEADER: Final = 2
BODY: Final = 3
HEARTBEAT: Final = 8
PUBLISH: Final = 0x003C_0028
ACK: Final = 0x003C_0050
CONSUME: Final = 0x003C_0014
PROTOCOL_HEADER: Final = b"AMQP"

_HEAD: Final = 7
_PROTOCOL_HEADER_BYTES: Final = 8
_NO_ACK: Final = 0b10


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame that begins in a stream.

    Attributes:
        start: offset of its first byte.
        size: bytes, with head and end octet.
        method: class and method of a method frame, else None.
    """

    start: int
    size: int
    kind: int
    method: int | None


def frames(chunk: bytes) -> Iterator[Frame]:
    """The whole frames of a chunk that begins with one; ends at the first that is cut short or no frame."""
    at = _PROTOCOL_HEADER_BYTES if chunk.startswith(PROTOCOL_HEADER) else 0
    while len(chunk) >= at + _HEAD:
        frame = _read(chunk, at)
        if frame is None or len(chunk) < at + frame.size:
            return
        yield frame
        at += frame.size


def holds(chunk: bytes, method: int) -> bool:
    """Whether a chunk has a frame of that method."""
    return any(frame.method == method for frame in frames(chunk))


@dataclass(slots=True)
class FrameStream:
    """Finds frames in a stream that comes in pieces of any size.

    Attributes:
        seen: bytes fed so far.
    """

    seen: int = 0
    _pending: bytearray = field(default_factory=bytearray)

    def feed(self, piece: bytes) -> list[Frame]:
        """Take the next piece; the frames of which the last byte has come now, with offsets in the whole stream."""
        self._pending += piece
        self.seen += len(piece)
        base = self.seen - len(self._pending)
        if base == 0 and self.seen < _PROTOCOL_HEADER_BYTES:
            return []
        found = list(frames(bytes(self._pending)))
        if found:
            del self._pending[: found[-1].start + found[-1].size]
        return [Frame(base + frame.start, frame.size, frame.kind, frame.method) for frame in found]


def acknowledging_at_once(chunk: bytes, queue: str) -> bytes:
    """The same frames, but the consumer of `queue` asks for no acknowledgement and none is sent."""
    kept = bytearray(chunk)
    name = bytes((len(queue),)) + queue.encode()
    for frame in reversed(list(frames(chunk))):
        part = slice(frame.start, frame.start + frame.size)
        if frame.method == ACK:
            del kept[part]
        elif frame.method == CONSUME and chunk[frame.start + _HEAD + 6 :].startswith(name):
            tag = frame.start + _HEAD + 6 + len(name)
            kept[tag + 1 + chunk[tag]] |= _NO_ACK
    return bytes(kept)


def _read(chunk: bytes, at: int) -> Frame | None:
    kind = chunk[at]
    if kind not in {METHOD, HEADER, BODY, HEARTBEAT}:
        return None
    payload = int.from_bytes(chunk[at + 3 : at + _HEAD], "big")
    first = chunk[at + _HEAD : at + _HEAD + 4]
    method = int.from_bytes(first, "big") if kind == METHOD and len(first) == 4 else None
    return Frame(at, _HEAD + payload + 1, kind, method)
