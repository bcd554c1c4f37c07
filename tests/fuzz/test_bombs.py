import json
import time
import tracemalloc

import pytest

from bench.fuzz import field_tables
from schemas.job import MAX_JSON_BODY_BYTES, MAX_SIGMF_HEADER_BYTES
from worker.amqp.tables import read_table
from worker.errors import JobError
from worker.reading import read_json, read_sigmf

PEAK_PER_BYTE = 100
GROWTH = 4
"""How much larger the larger of two inputs is."""
TOLERATED = 2.5
"""Times `GROWTH`: well under the square, which a reader takes that copies the rest at each step."""


def wide_text(n):
    """Numbers' places filled with text, one of them long."""
    return json.dumps({"iq_data": [["a" * n, "b"]] + [["c", "d"]] * (n // 20)}).encode()


def deep_lists(n):
    """Lists within lists."""
    return b'{"iq_data":' + b"[" * n + b"]" * n + b"}"


def many_keys(n):
    """Fields that nobody knows."""
    return b'{"iq_data":[[1,2]]' + b"".join(b',"%d":0' % index for index in range(n)) + b"}"


def many_samples(n):
    """A batch far over the limit."""
    return json.dumps({"iq_samples": [[[0, 1]]] * n}).encode()


def ragged(n):
    """Pairs, but for the last."""
    return json.dumps({"iq_data": [[0, 1]] * n + [[1]]}).encode()


def mixed_depth(n):
    """Numbers beside lists of text."""
    return json.dumps({"iq_data": [[1, ["a" * n]]] + [[0, ["b"]]] * (n // 20)}).encode()


BODIES = [
    (wide_text, 20_000),
    (deep_lists, 1000),
    (deep_lists, 100_000),
    (many_keys, 20_000),
    (many_samples, 20_000),
    (ragged, 50_000),
    (mixed_depth, 20_000),
]


@pytest.mark.parametrize(("make", "n"), BODIES)
def test_a_json_body_takes_memory_in_proportion(make, n):
    """One text among many numbers, deep lists, thousands of fields: the memory grows with the body, not its square."""
    body = make(n)
    assert len(body) <= MAX_JSON_BODY_BYTES
    assert refused_at_peak(lambda: read_json(body)) <= 1_000_000 + PEAK_PER_BYTE * len(body)


def test_metadata_take_memory_in_proportion():
    """Metadata of the largest size, deep or wide."""
    deep = (
        '{"global":{"core:datatype":"cf32_le","core:sample_rate":1},"annotations":[{"a":'
        + "[" * 900
        + "]" * 900
        + "}]}"
    )
    wide = '{"global":{' + ",".join(f'"{index}":0' for index in range(6000)) + "}}"
    for header in (deep, wide):
        assert len(header) <= MAX_SIGMF_HEADER_BYTES
        peak = refused_at_peak(lambda text=header: read_sigmf(text, b"1234"))
        assert peak <= 1_000_000 + PEAK_PER_BYTE * len(header)


@pytest.mark.parametrize(
    "make",
    [
        lambda n: field_tables.table([(b"x", field_tables.array([b"V"] * n))]),
        lambda n: field_tables.table([(b"", b"V")] * (n // 2)),
        lambda n: field_tables.table([(b"k", field_tables.array([field_tables.array([])] * (n // 5)))]),
    ],
)
def test_headers_take_time_in_proportion(make):
    """Four times as many entries take about four times as long: a broker passes on 128 KiB of them."""
    small, large = make(30_000), make(30_000 * GROWTH)
    assert quickest(read_table, large) < TOLERATED * GROWTH * quickest(read_table, small)


def refused_at_peak(read):
    """Bytes that were taken at most until the refusal."""
    tracemalloc.start()
    try:
        with pytest.raises(JobError):
            read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def quickest(read, data, attempts=5):
    """Processor seconds of the quickest of several calls."""
    times = []
    for _ in range(attempts):
        started = time.process_time()
        read(data)
        times.append(time.process_time() - started)
    return min(times)
