"""How a sound input is spoilt: in its bytes, or in the tree of a JSON document. All randomness is an argument."""

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

_ODD_INTEGERS: Final = (0, -1, 1, 127, 128, 255, 65_536, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 2**64 - 1, 10**30)
_ODD_FLOATS: Final = (-0.0, 1e-320, 5e-324, 1e308, -1e308, 3.5e38, 0.1, float("inf"), float("-inf"), float("nan"))
_ODD_TEXTS: Final = (
    "",
    " ",
    "\x00",
    "null",
    "../../etc/passwd",
    "http://127.0.0.1/x",
    "heimdall:result:x",
    "é" * 40,
    "\U0001f4e1",
    "1e5",
    "0" * 300,
    "x" * 5000,
    "-1",
    "{}",
    "\ufffe",
    "%s%n",
    "a\nb",
)
_DEEP: Final = 2000
_WIDE: Final = 2000


def spoil_bytes(rng: Random, data: bytes) -> bytes:
    """A few bytes flipped, cut, doubled, inserted or swapped."""
    for _ in range(rng.randrange(1, 4)):
        data = rng.choice(_BYTE_STEPS)(rng, data)
    return data


def spoil_json(rng: Random, document: Any) -> Any:
    """The document with up to three of its parts changed; the argument stays as it is."""
    for _ in range(rng.randrange(1, 4)):
        document = _changed(rng, document, rng.randrange(1, 7))
    return document


def as_json(rng: Random, document: Any) -> bytes:
    """JSON text; now and then with literals that are none (NaN), a mark in front, or a deep or wide end."""
    text = json.dumps(document, ensure_ascii=rng.random() < 0.5, separators=rng.choice([None, (",", ":")]))
    data = text.encode(errors="replace")
    match rng.randrange(400):
        case 0:
            return b"[" * _DEEP + data + b"]" * _DEEP
        case 1:
            return data[:-1] + b',"x":' + b"[" * _DEEP + b"]" * _DEEP + b"}"
        case 2:
            return data[:-1] + b"".join(b',"%d":0' % index for index in range(_WIDE)) + b"}"
        case 3:
            return b"\xef\xbb\xbf" + data
        case _:
            return data


def odd_value(rng: Random) -> Any:
    """A value that is rarely the right one."""
    return rng.choice(_ODD_VALUES)(rng)


def _changed(rng: Random, node: Any, depth: int) -> Any:
    if depth > 1 and isinstance(node, dict) and node:
        key = rng.choice(list(node))
        return node | {key: _changed(rng, node[key], depth - 1)}
    if depth > 1 and isinstance(node, list) and node:
        index = rng.randrange(len(node))
        return [*node[:index], _changed(rng, node[index], depth - 1), *node[index + 1 :]]
    return _replaced(rng, node)


def _replaced(rng: Random, node: Any) -> Any:
    match rng.randrange(6):
        case 0 if isinstance(node, dict) and node:
            gone = rng.choice(list(node))
            return {key: value for key, value in node.items() if key != gone}
        case 1 if isinstance(node, dict):
            return node | {rng.choice(_ODD_TEXTS): odd_value(rng)}
        case 2 if isinstance(node, list) and node:
            return node * rng.randrange(3)
        case 3:
            return [node]
        case 4 if isinstance(node, int | float):
            return node * rng.choice((-1, 0, 1e3, 1e-3, 1e30))
        case _:
            return odd_value(rng)


def _flip(rng: Random, data: bytes) -> bytes:
    if not data:
        return data
    index = rng.randrange(len(data))
    return data[:index] + bytes([data[index] ^ (1 << rng.randrange(8))]) + data[index + 1 :]


def _cut(rng: Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _remove(rng: Random, data: bytes) -> bytes:
    start = rng.randrange(len(data) + 1)
    return data[:start] + data[start + rng.randrange(1, 9) :]


def _double(rng: Random, data: bytes) -> bytes:
    start = rng.randrange(len(data) + 1)
    return data[:start] + data[start : start + rng.randrange(1, 33)] * 2 + data[start:]


def _insert(rng: Random, data: bytes) -> bytes:
    index = rng.randrange(len(data) + 1)
    return data[:index] + rng.randbytes(rng.randrange(1, 9)) + data[index:]


def _overwrite(rng: Random, data: bytes) -> bytes:
    index = rng.randrange(len(data) + 1)
    extreme = rng.choice((b"\x00", b"\xff", b"\x7f", b"\x80", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x00" * 4))
    return data[:index] + extreme + data[index + len(extreme) :]


_BYTE_STEPS: Final[Sequence[Callable[[Random, bytes], bytes]]] = (
    _flip,
    _flip,
    _cut,
    _remove,
    _double,
    _insert,
    _overwrite,
)

_ODD_VALUES: Final[Sequence[Callable[[Random], Any]]] = (
    lambda rng: rng.choice(_ODD_INTEGERS),
    lambda rng: rng.choice(_ODD_FLOATS),
    lambda rng: rng.choice(_ODD_TEXTS),
    lambda rng: rng.choice(_ODD_TEXTS),
    lambda rng: rng.choice([None, True, False]),
    lambda rng: rng.choice([[], {}, [[]], [{}], {"": {}}]),
    lambda rng: [odd_value(rng) for _ in range(rng.randrange(3))],
    lambda rng: {rng.choice(_ODD_TEXTS): odd_value(rng) for _ in range(rng.randrange(3))},
)
