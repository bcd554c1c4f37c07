import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from prometheus_client import CollectorRegistry, Counter

from worker.store.cache import (
    FrontEntry,
    OutputCache,
    _read_front,
    _read_row,
    _write_front,
    _write_row,
    front_key,
    row_key,
)
from worker.store.connection import StoreConnection, connect

dtypes = st.sampled_from(["f2", "f4", "f8", "i1", "i4", "i8", "u1", "u8", "?", "<f4", ">f4"])
arrays = dtypes.flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)


@given(st.dictionaries(st.text(max_size=10), arrays, max_size=4))
def test_a_row_reads_back_bit_by_bit(row):
    """Any outputs, of any dtype and shape, NaN included, are what they were."""
    read = _read_row(_write_row(row))
    assert list(read) == list(row)
    for name, values in row.items():
        assert (read[name].dtype, read[name].shape) == (values.dtype, values.shape)
        assert read[name].tobytes() == values.tobytes()


def test_a_row_may_be_a_view():
    """One item of a batch is written as it is, contiguous or not."""
    batch = np.arange(24.0).reshape(2, 3, 4)
    for values in (batch[1], batch[:, 1], batch.T):
        np.testing.assert_array_equal(_read_row(_write_row({"a": values}))["a"], values)


@given(st.binary(max_size=40), st.lists(st.integers(-1, 63), max_size=64), st.booleans())
def test_a_front_entry_reads_back(key, channels, clipped):
    """Row key, seats and the flag."""
    entry = FrontEntry(key, tuple(channels), clipped)
    assert _read_front(_write_front(entry)) == entry


def test_keys_tell_inputs_apart():
    """Model, body, description, range and index each make another key; equal input makes the same."""
    plain = (b"s", b"b", b"d", (0, 10), 0)
    keys = [
        front_key(*plain),
        front_key(b"S", *plain[1:]),
        front_key(b"s", b"B", *plain[2:]),
        front_key(b"s", b"b", b"D", (0, 10), 0),
        front_key(b"s", b"b", b"d", (1, 10), 0),
        front_key(b"s", b"b", b"d", (0, 11), 0),
        front_key(b"s", b"b", b"d", (0, 10), 1),
        row_key(b"s", b"b"),
        row_key(b"S", b"b"),
    ]
    assert len(set(keys)) == len(keys)
    assert front_key(*plain) == keys[0]


@pytest.fixture
async def connection(redis_url):
    """A connection that knows Redis is up."""
    failures = Counter("failures", "x", registry=CollectorRegistry())
    up = asyncio.Event()
    made = StoreConnection(
        connect(redis_url, 2.0), hold=5.0, instance="test", failures=failures, on_change=lambda _: up.set()
    )
    watching = asyncio.create_task(made.watch())
    await asyncio.wait_for(up.wait(), 10)
    yield made
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    await made.close()


ROW = {"position": np.array([45.0, 7.6], np.float32), "sigma": np.array([0.1], np.float32)}
ENTRY = FrontEntry(b"r1", (0, -1), clipped=True)


async def test_what_is_stored_is_found(connection):
    """Both levels, several at once, equal keys once; what is not there is left out."""
    cache = OutputCache(connection, 60)
    await cache.store({b"f1": ENTRY}, {b"r1": ROW})
    assert await cache.fronts([b"f1", b"f2", b"f1"]) == {b"f1": ENTRY}
    rows = await cache.rows([b"r2", b"r1"])
    assert list(rows) == [b"r1"]
    np.testing.assert_array_equal(rows[b"r1"]["position"], ROW["position"])
    assert await cache.fronts([]) == {}
    await cache.store({}, {})


async def test_entries_live_for_their_time(connection):
    """Every entry has the cache's TTL."""
    await OutputCache(connection, 60).store({b"f1": ENTRY}, {b"r1": ROW})
    for key in (b"f1", b"r1"):
        assert 0 < await connection.client.ttl(key) <= 60


@pytest.mark.parametrize("garbage", [b"", b"garbage", b"{}", b'{"a": ["<f4", [9]]}\nx', b'["zz", [], false]', b"[1]"])
async def test_an_entry_that_cannot_be_read_is_a_miss(connection, garbage):
    """A failure of the cache is a miss, never more: whatever lies under a key."""
    await connection.client.mset({b"f1": garbage, b"r1": garbage})
    cache = OutputCache(connection, 60)
    assert await cache.fronts([b"f1"]) == {}
    assert await cache.rows([b"r1"]) == {}


async def test_a_cache_that_is_away_is_a_miss(redis_url):
    """While Redis is not known to be up, nothing is asked, nothing found and nothing raised."""
    failures = Counter("failures", "x", registry=CollectorRegistry())
    down = StoreConnection(
        connect(redis_url, 2.0), hold=5.0, instance="test", failures=failures, on_change=lambda _: None
    )
    cache = OutputCache(down, 60)
    await cache.store({b"f1": ENTRY}, {})
    assert await cache.fronts([b"f1"]) == {}
    assert await down.client.exists(b"f1") == 0
    await down.close()
