"""AMQP 0-9-1 field tables and content headers, written byte by byte: also those that no library would write."""

import struct
from collections.abc import Callable
from random import Random
from typing import Final

# Order of the properties in a content header: the first has the highest bit (AMQP 0-9-1, section 4.2.6.1).
PROPERTIES: Final = (
    "content_type",
    "content_encoding",
    "headers",
    "delivery_mode",
    "priority",
    "correlation_id",
    "reply_to",
    "expiration",
    "message_id",
    "timestamp",
    "message_type",
    "user_id",
    "app_id",
    "cluster_id",
)
_HIGHEST_BIT: Final = 15
_DEEPEST: Final = 3
_KEYS: Final = (b"", b"a", b"sigmf", b"\xff\xfe", b"k" * 100)
_TEXTS: Final = (b"", b"true", b"0.5", b"1e999", b"2026-01-01T00:00:00Z", "é".encode() * 70, b"a\x00b")


def content(properties: dict[str, bytes]) -> bytes:
    """Flags and values of a content header, the values as they are."""
    flags = sum(1 << (_HIGHEST_BIT - PROPERTIES.index(name)) for name in properties)
    return struct.pack(">H", flags) + b"".join(properties[name] for name in PROPERTIES if name in properties)


def short_text(text: bytes) -> bytes:
    """A short string, at most 255 bytes."""
    return bytes([len(text[:255])]) + text[:255]


def long_text(text: bytes, tag: bytes = b"S") -> bytes:
    """A tagged long string (`S`) or byte array (`x`)."""
    return tag + struct.pack(">I", len(text)) + text


def table(entries: list[tuple[bytes, bytes]]) -> bytes:
    """A table of keys and tagged values."""
    body = b"".join(short_text(key) + value for key, value in entries)
    return struct.pack(">I", len(body)) + body


def array(values: list[bytes]) -> bytes:
    """A tagged array of tagged values."""
    body = b"".join(values)
    return b"A" + struct.pack(">I", len(body)) + body


def value(rng: Random, depth: int = 0) -> bytes:
    """A tagged value of any type, from its whole range."""
    if depth == _DEEPEST or rng.random() < 0.6:
        return rng.choice(_PLAIN)(rng)
    if rng.random() < 0.2:
        return bomb(rng)
    if rng.random() < 0.6:
        return array([value(rng, depth + 1) for _ in range(rng.randrange(4))])
    return b"F" + table([(rng.choice(_KEYS), value(rng, depth + 1)) for _ in range(rng.randrange(3))])


def _integer(rng: Random) -> bytes:
    tag, size = rng.choice(((b"b", 1), (b"B", 1), (b"s", 2), (b"u", 2), (b"I", 4), (b"i", 4), (b"l", 8), (b"L", 8)))
    return tag + rng.choice((b"\x00" * size, b"\xff" * size, b"\x7f" + b"\xff" * (size - 1), rng.randbytes(size)))


def _decimal(rng: Random) -> bytes:
    digits = rng.choice((b"\xff" * 4, b"\x00" * 4, rng.randbytes(4)))
    return b"D" + bytes([rng.choice((0, 1, 9, 28, 255))]) + digits


def _float(rng: Random) -> bytes:
    odd = rng.choice((b"f\x7f\x80\x00\x00", b"d\x7f\xf8" + b"\x00" * 6))
    return rng.choice((b"f" + rng.randbytes(4), b"d" + rng.randbytes(8), odd))


def _instant(rng: Random) -> bytes:
    sound = struct.pack(">Q", rng.randrange(2**34))
    return b"T" + rng.choice((sound, b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\x00" * 8))


def bomb(rng: Random) -> bytes:
    """A tagged value that is deep, or has very many parts."""
    deep = rng.choice((10, 100, 400, 1500))
    match rng.randrange(40):
        case 0:
            return array([b"V"] * rng.choice((1000, 100_000)))
        case 1:
            return b"F" + table([(b"", b"V")] * rng.choice((1000, 50_000)))
        case _:
            nested = b"V"
            for _ in range(deep):
                nested = array([nested])
            return nested


_PLAIN: Final[tuple[Callable[[Random], bytes], ...]] = (
    lambda rng: rng.choice((b"t\x00", b"t\x01", b"t\x07", b"V", b"\x00", b"Z")),
    _integer,
    _decimal,
    _float,
    _instant,
    lambda rng: long_text(rng.randbytes(rng.randrange(20)), rng.choice((b"S", b"x"))),
    lambda rng: long_text(rng.choice(_TEXTS)),
)
