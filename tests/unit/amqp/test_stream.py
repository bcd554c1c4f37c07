"""The stream that keeps some methods of one channel: whatever pieces it comes in, nothing is lost or reordered."""

import itertools
import struct

import pamqp.body
import pamqp.commands
import pamqp.frame
import pamqp.header
import pamqp.heartbeat
import pytest
from aiormq.exceptions import InvalidFrameError
from hypothesis import given
from hypothesis import strategies as st

from worker.amqp.stream import ACK, DELIVER, NACK, RETURN, FrameReader, ack_frame, requeue_frame

OURS, OTHER = 2, 3
HEARTBEAT = pamqp.frame.marshal(pamqp.heartbeat.Heartbeat(), 0)


class Clock:
    """The part of an event loop that a reader asks; time stands still."""

    def time(self):
        """Seconds."""
        return 0.0

    def get_debug(self):
        """No."""
        return False


def frame(value, channel=OURS):
    """The bytes of a frame."""
    return pamqp.frame.marshal(value, channel)


def content(method, body, cut, channel=OURS, **properties):
    """The frames of a method with content, its body in frames of at most `cut` bytes."""
    pieces = [body[start : start + cut] for start in range(0, len(body), cut)]
    header = pamqp.header.ContentHeader(0, len(body), pamqp.commands.Basic.Properties(**properties))
    return [frame(value, channel) for value in (method, header, *map(pamqp.body.ContentBody, pieces))]


def delivery(tag, body, cut, channel=OURS, **properties):
    """The frames of a delivery."""
    deliver = pamqp.commands.Basic.Deliver("ctag", tag, tag % 2 == 1, "heimdall.iq", f"key{tag}")
    return content(deliver, body, cut, channel, **properties)


def payloads(frames):
    """What a reader gives of a method: its payload, that of its content header, and the body."""
    method, header, *bodies = [piece[7:-1] for piece in frames]
    return method, header, b"".join(bodies)


def read(stream, cuts=(), clock=None, methods=(DELIVER,)):
    """What a reader of the stream takes, and what it passes on, when the stream comes in pieces."""
    taken, reader = [], FrameReader(clock or Clock())
    reader.divert(OURS, methods, lambda *parts: taken.append(parts))
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    for first, last in itertools.pairwise(edges):
        reader.feed_data(stream[first:last])
    return taken, bytes(reader._buffer)


@st.composite
def conversations(draw):
    """Deliveries on our channel, other frames on it between them, and frames of other channels between any two."""
    ours, expected = [], []
    for tag in range(draw(st.integers(0, 4))):
        body = draw(st.binary(max_size=40))
        properties = {"message_id": f"job-{tag}", "headers": {"n": tag}} if draw(st.booleans()) else {}
        frames = delivery(tag, body, draw(st.integers(1, 20)), **properties)
        ours.append(("taken", frames))
        expected.append(payloads(frames))
        if draw(st.booleans()):
            ours.append(("passed", [frame(pamqp.commands.Basic.CancelOk("ctag"))]))
    stream = [(kind, piece) for kind, pieces in ours for piece in pieces]
    foreign = [
        HEARTBEAT,
        *delivery(9, b"theirs", 3, OTHER),
        frame(pamqp.commands.Connection.Blocked("memory"), 0),
    ]
    at = 0
    for piece in foreign[: draw(st.integers(0, len(foreign)))]:
        at = draw(st.integers(at, len(stream)))
        stream.insert(at, ("passed", piece))
        at += 1
    return stream, expected


@given(conversations(), st.lists(st.integers(0, 2000), max_size=8))
def test_deliveries_are_taken_and_all_else_passes(conversation, cuts):
    """However the stream is cut."""
    stream, expected = conversation
    taken, passed = read(b"".join(piece for _, piece in stream), cuts)
    assert taken == expected
    assert passed == b"".join(piece for kind, piece in stream if kind == "passed")


@given(st.lists(st.integers(0, 2000), max_size=8))
def test_confirms_and_returns_are_taken(cuts):
    """Methods without content, and one whose content says what was returned."""
    returned = content(pamqp.commands.Basic.Return(312, "NO_ROUTE", "", "q"), b"body", 3, message_id="m-1")
    ack, nack = frame(pamqp.commands.Basic.Ack(7, True)), frame(pamqp.commands.Basic.Nack(8))
    others = [frame(pamqp.commands.Basic.Ack(1), OTHER), frame(pamqp.commands.Basic.CancelOk("ctag"))]
    taken, passed = read(b"".join([*returned, others[0], ack, others[1], nack]), cuts, methods=(ACK, NACK, RETURN))
    assert taken == [payloads(returned), (ack[7:-1], b"", b""), (nack[7:-1], b"", b"")]
    assert passed == b"".join(others)


def test_before_it_is_told_of_a_channel_everything_passes():
    """The library's handshake, and deliveries on channels that it serves itself."""
    reader = FrameReader(Clock())
    stream = b"".join([frame(pamqp.commands.Connection.Start(), 0), *delivery(1, b"x", 1)])
    reader.feed_data(stream)
    assert reader._buffer == stream


def test_a_broker_of_another_protocol_is_left_to_the_library():
    """It answers with its own header, and closes."""
    assert read(b"AMQP\x00\x01\x00\x00") == ([], b"AMQP\x00\x01\x00\x00")


def test_content_of_a_method_that_was_not_asked_for_passes():
    """A returned message has header and body on the same channel; the library asked for it."""
    returned = content(pamqp.commands.Basic.Return(312, "NO_ROUTE", "", "q"), b"body", 9)
    assert read(b"".join(returned)) == ([], b"".join(returned))


@given(st.lists(st.integers(0, 2000), max_size=8))
def test_a_sign_of_life_stands_between_frames(cuts):
    """The library sees traffic while it is all ours, and never in the middle of another frame."""
    theirs = delivery(9, b"theirs", 3, OTHER)
    stream = b"".join([*theirs, *delivery(1, b"ours", 2), *theirs, *delivery(2, b"", 1)])
    seconds = itertools.count(10, 10)

    class Impatient(Clock):
        def time(self):
            return float(next(seconds))

    _, passed = read(stream, cuts, Impatient())
    beats = 0
    frames = []
    while passed:
        size, _, value = pamqp.frame.unmarshal(passed)
        if value.name == "Heartbeat":
            beats += 1
        else:
            frames.append(passed[:size])
        passed = passed[size:]
    assert frames == theirs * 2
    assert beats >= 1


@pytest.mark.parametrize(
    "stream",
    [
        b"".join(delivery(1, b"body", 9))[:-1] + b"\x00",
        delivery(1, b"body", 9)[0][:-1] + b"\x00",
        b"".join([*delivery(1, b"body", 9)[:2], frame(pamqp.body.ContentBody(b"five!"))]),
        b"".join([delivery(1, b"body", 9)[0], frame(pamqp.body.ContentBody(b"no header yet"))]),
        delivery(1, b"body", 9)[0] * 2,
        delivery(1, b"body", 9)[0] + struct.pack(">BHI", 2, OURS, 4) + b"\x00\x3c\x00\x00\xce",
    ],
    ids=[
        "end of the body",
        "end of the method",
        "more body than announced",
        "body before header",
        "method within content",
        "header cut short",
    ],
)
def test_what_is_no_sequence_of_frames_ends_the_connection(stream):
    """The transport closes over an exception."""
    with pytest.raises(InvalidFrameError):
        read(stream)


@pytest.mark.parametrize("tag", [1, 2**40])
def test_what_settles_is_framed_as_the_library_would(tag):
    """Acknowledgements of one and of all up to it, and what gives one back."""
    one, all_up_to_it = (pamqp.commands.Basic.Ack(tag, multiple) for multiple in (False, True))
    assert ack_frame(OURS, tag, False) == frame(one)
    assert ack_frame(OURS, tag, True) == frame(all_up_to_it)
    assert requeue_frame(OURS, tag) == frame(pamqp.commands.Basic.Nack(tag, False, True))
