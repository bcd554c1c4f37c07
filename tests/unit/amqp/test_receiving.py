"""Deliveries read from their frames: as the library reads them, and leniently where it would not."""

import struct
from datetime import UTC, datetime

import pamqp.commands
import pamqp.frame
import pamqp.header
import pytest
from aiormq.exceptions import InvalidFrameError
from hypothesis import given
from hypothesis import strategies as st

from worker.amqp.receiving import read_delivery_frames, read_properties

DELIVER = pamqp.commands.Basic.Deliver("ctag", 7, True, "heimdall.iq", "localize.north")
text = st.text(st.characters(codec="utf-8"), max_size=60).filter(lambda value: len(value.encode()) < 256)
instant = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)).map(  # noqa: DTZ001 - hypothesis wants them naive
    lambda value: value.replace(microsecond=0, tzinfo=UTC)
)
known = {
    "headers": st.dictionaries(st.sampled_from(["a", "b"]), st.integers(-5, 5) | st.booleans() | text, min_size=1),
    "delivery_mode": st.sampled_from([1, 2]),
    "priority": st.integers(0, 9),
    "timestamp": instant,
}
names = set(pamqp.commands.Basic.Properties.attributes()) - {"cluster_id"}  # Which the library does not write.
properties = st.fixed_dictionaries({}, optional={name: known.get(name, text) for name in sorted(names)})


def payload(**values):
    """Payload of a content header."""
    return pamqp.header.ContentHeader(0, 4, pamqp.commands.Basic.Properties(**values)).marshal()


def read(header, method=DELIVER):
    """The message of a delivery."""
    return read_delivery_frames(pamqp.frame.marshal(method, 1)[7:-1], header, b"body")


@given(properties)
def test_properties_are_read_as_the_library_reads_them(values):
    """Whichever there are."""
    header = payload(**values)
    theirs = pamqp.header.ContentHeader()
    theirs.unmarshal(header)
    assert {n: v for n, v in read_properties(header).items() if v} == {n: v for n, v in theirs.properties if v}


@given(properties, st.integers(1, 200))
def test_a_header_that_is_cut_short_is_an_error(values, cut):
    """Wherever the cut is, once there is something to lose."""
    header = payload(**values)
    if cut < len(header) - 12:
        with pytest.raises((ValueError, LookupError, struct.error)):
            read_properties(header[:-cut])


def test_flags_of_properties_unknown_to_the_protocol_are_skipped():
    """The lowest bit of a word of flags announces another word."""
    sound = payload(message_id="job-1")
    (flags,) = struct.unpack_from(">H", sound, 12)
    longer = sound[:12] + struct.pack(">HH", flags | 1, 0) + sound[14:]
    assert read_properties(longer) == {"message_id": "job-1"}


def test_a_delivery_is_read():
    """Tag, routing key and what the properties say."""
    message = read(payload(message_id="job-1", content_type="application/json", headers={"session_id": "東"}))
    assert (message.delivery_tag, message.redelivered, message.routing_key) == (7, True, "localize.north")
    assert (message.message_id, message.headers, message.body) == ("job-1", {"session_id": "東"}, b"body")
    assert (message.correlation_id, message.user_id, message.timestamp) == (None, None, None)


@pytest.mark.parametrize("name", ["message_id", "correlation_id", "reply_to", "content_type", "user_id"])
def test_a_property_that_is_no_text_is_read_leniently(name):
    """One octet each becomes `?`, so that the text still fits a short string."""
    header = payload(**{name: "abc"}).replace(b"\x03abc", b"\x03\xff\xfe\xfd")
    assert getattr(read(header), name) == "???"


@pytest.mark.parametrize(("method", "header"), [(b"\0\x3c\0\x3c\x04ctag", payload()), (None, payload()[:13])])
def test_a_delivery_that_is_cut_short_ends_the_connection(method, header):
    """Its method, or its content header."""
    whole = pamqp.frame.marshal(DELIVER, 1)[7:-1]
    with pytest.raises(InvalidFrameError, match="delivery"):
        read_delivery_frames(method or whole, header, b"body")


def test_an_empty_property_is_none():
    """As if it were not there."""
    assert read(payload()[:12] + struct.pack(">H", 1 << 7) + b"\x00").message_id is None
