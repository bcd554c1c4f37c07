"""The cache of raw model output, in two levels. A failure of the cache is a miss, never more.

Front: body bytes + canonical metadata → the row's key and what only the IQ tells (seats, clipping): skips the features.
Row: model, contract, all input tensors and what decoding reads → one row of each output. Decoding is made anew.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import orjson
import structlog
from blake3 import blake3
from numpy.typing import NDArray

from worker.store.connection import StoreConnection

KEY_PREFIX = b"heimdall:cache:"

log = structlog.get_logger(__name__)

Row = dict[str, NDArray[np.generic]]
Entry = TypeVar("Entry")


@dataclass(frozen=True, slots=True)
class FrontEntry:
    """What identical input led to before.

    Attributes:
        row_key: where its output row lies.
        channels: the channel in each row of the receiver axis, -1 = nobody.
        clipped: the flag.
    """

    row_key: bytes
    channels: tuple[int, ...]
    clipped: bool


def front_key(scope: bytes, body_digest: bytes, description: bytes, sample: tuple[int, int], index: int) -> bytes:
    """Key of the front level, for one sample of a job."""
    place = orjson.dumps([*sample, index])
    return KEY_PREFIX + b"f:" + blake3(b"\0".join((scope, body_digest, description, place))).digest()


def row_key(scope: bytes, tensors_digest: bytes) -> bytes:
    """Key of the row level."""
    return KEY_PREFIX + b"r:" + blake3(scope + tensors_digest).digest()


class OutputCache:
    """Both levels, in Redis.

    Args:
        connection: to Redis.
        ttl_s: life of an entry, seconds.
    """

    def __init__(self, connection: StoreConnection, ttl_s: int) -> None:
        self._connection = connection
        self._ttl_s = ttl_s

    async def fronts(self, keys: Sequence[bytes]) -> dict[bytes, FrontEntry]:
        """Front entries that are there."""
        return await self._read(keys, _read_front)

    async def rows(self, keys: Sequence[bytes]) -> dict[bytes, Row]:
        """Output rows that are there."""
        return await self._read(keys, _read_row)

    async def store(self, fronts: Mapping[bytes, FrontEntry], rows: Mapping[bytes, Row]) -> None:
        """Store entries of both levels."""
        entries = {key: _write_front(entry) for key, entry in fronts.items()}
        entries |= {key: _write_row(row) for key, row in rows.items()}
        if not entries:
            return

        async def call() -> None:
            async with self._connection.client.pipeline(transaction=False) as pipeline:
                for key, value in entries.items():
                    pipeline.set(key, value, ex=self._ttl_s)
                await pipeline.execute()

        await self._connection.attempt(call)

    async def _read(self, keys: Sequence[bytes], read: Callable[[bytes], Entry]) -> dict[bytes, Entry]:
        if not keys:
            return {}
        distinct = list(dict.fromkeys(keys))
        ask = partial(self._connection.commands.execute, "MGET", *distinct)
        found: list[Any] | None = await self._connection.attempt(ask)
        entries = {}
        for key, value in zip(distinct, found or (), strict=False):
            if value is not None:
                try:
                    entries[key] = read(value)
                except (ValueError, TypeError, KeyError) as error:
                    log.warning("cache.unreadable", error=repr(error))
        return entries


def _write_front(entry: FrontEntry) -> bytes:
    return orjson.dumps([entry.row_key.hex(), entry.channels, entry.clipped])


def _read_front(value: bytes) -> FrontEntry:
    key, channels, clipped = orjson.loads(value)
    return FrontEntry(bytes.fromhex(key), tuple(channels), clipped)


def _write_row(row: Row) -> bytes:
    # A JSON head and raw bytes: numpy's own file format would admit pickles.
    head = orjson.dumps({name: [values.dtype.str, values.shape] for name, values in row.items()})
    return b"\n".join((head, b"".join(np.ascontiguousarray(values).tobytes() for values in row.values())))


def _read_row(value: bytes) -> Row:
    head, data = value.split(b"\n", 1)
    row: Row = {}
    offset = 0
    for name, (dtype, shape) in orjson.loads(head).items():
        array = np.frombuffer(data, dtype, int(np.prod(shape)), offset).reshape(shape)
        offset += array.nbytes
        row[name] = array
    return row
