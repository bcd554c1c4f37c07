import struct
from datetime import UTC, datetime
from decimal import Decimal
from random import Random

import pamqp.decode
import pamqp.encode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.fuzz import field_tables
from worker.amqp.tables import MAX_DEPTH, read_table

FAILURES = (ValueError, TypeError, LookupError, ArithmeticError, OSError, RecursionError, struct.error)


def one(value):
    """The table with this value under `k`, read."""
    table = field_tables.table([(b"k", value)])
    consumed, entries = read_table(table + b"more")
    assert consumed == len(table)
    return entries["k"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"t\x01", True),
        (b"b\xff", -1),
        (b"B\xff", 255),
        (b"s\xff\xff", -1),
        (b"u\xff\xff", 65_535),
        (b"I\xff\xff\xff\xff", -1),
        (b"i\xff\xff\xff\xff", 2**32 - 1),
        (b"l" + b"\xff" * 8, -1),
        (b"L\x7f" + b"\xff" * 7, 2**63 - 1),
        (b"f\x3f\x00\x00\x00", 0.5),
        (b"d\x3f\xe0" + b"\x00" * 6, 0.5),
        (b"D\x02\x00\x00\x00\x7b", Decimal("1.23")),
        (b"S\x00\x00\x00\x02\xc3\xa9", "é"),
        (b"S\x00\x00\x00\x01\xff", b"\xff"),
        (b"x\x00\x00\x00\x01a", b"a"),
        (b"T" + struct.pack(">Q", 1_700_000_000), datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        (b"T" + struct.pack(">Q", 1_700_000_000_000), datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        (b"V", None),
        (b"\x00", None),
        (b"A\x00\x00\x00\x03t\x01V", [True, None]),
        (b"F" + field_tables.table([(b"a", b"V")]), {"a": None}),
    ],
)
def test_every_type_is_read(value, expected):
    """A value of each type of the table in the module's head, to its own end."""
    assert one(value) == expected


def test_later_entries_win():
    """Two entries under one key leave the later."""
    assert read_table(field_tables.table([(b"k", b"b\x01"), (b"k", b"b\x02")]))[1] == {"k": 2}


def test_nesting_ends_somewhere():
    """As deep as allowed is read, one more is refused: no sound header is deep."""
    value = b"V"
    for _ in range(MAX_DEPTH):
        value = field_tables.array([value])
    assert one(value)
    with pytest.raises(ValueError, match="nested more than"):
        one(field_tables.array([value]))


@pytest.mark.parametrize(
    "table",
    [
        b"\x00\x00\x00\x05\x01k",
        b"\x00\x00\x00\x02\x01k",
        b"\x00\x00\x00\x03\x01kb",
        b"\x00\x00\x00\x03\x01kb\x01",
        b"\x00\x00\x00\x07\x01kS\xff\xff\xff\xff" + b"x" * 20,
        b"\x00\x00\x00\x07\x01kA\x00\x00\x00\x01V",
        b"\x00\x00\x00\x03\x01kZ",
        b"\x00\x00\x00\x02\xffk",
        b"\x00\x00\x00\x03\x01\xffV",
        b"\x00\x00\x00\x0b\x01kT" + b"\xff" * 8,
    ],
)
def test_what_does_not_add_up_is_refused(table):
    """Lengths beyond their surroundings, unknown types, keys that are no text, instants of no calendar."""
    with pytest.raises(FAILURES):
        read_table(table)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=9) | st.floats(width=32),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
        max_leaves=9,
    )
)
def test_what_the_library_writes_is_read_as_the_library_reads_it(value):
    """The same entries, and the same end."""
    table = pamqp.encode.field_table({"k": value, "l": value})
    consumed, entries = read_table(table)
    assert (consumed, repr(entries)) == (len(table), repr(pamqp.decode.field_table(table)[1]))


def test_any_bytes_are_read_or_refused():
    """Odd values, spoilt ones and noise raise nothing else than what is told."""
    for seed in range(2000):
        rng = Random(seed)
        table = field_tables.table([(b"k", field_tables.value(rng))])
        place = rng.randrange(len(table))
        for data in (table, table[:place] + rng.randbytes(1) + table[place + 1 :], table[:place], rng.randbytes(30)):
            try:
                consumed, entries = read_table(data)
            except FAILURES:
                continue
            assert consumed <= len(data)
            assert isinstance(entries, dict)
