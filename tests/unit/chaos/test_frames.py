"""Finding AMQP frames in a stream, against frames made by the library."""

import pamqp.body
import pamqp.frame
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands as spec

from bench.chaos.frames import ACK, CONSUME, PUBLISH, FrameStream, acknowledging_at_once, frames, holds

HEADER = b"AMQP\x00\x00\x09\x01"


def marshalled(*methods: object) -> list[bytes]:
    """Frames on channel 1."""
    return [pamqp.frame.marshal(method, 1) for method in methods]  # type: ignore[arg-type]


FRAMES = marshalled(
    spec.Basic.Publish(exchange="heimdall.iq", routing_key="localize"),
    pamqp.body.ContentBody(b"\x01\x00\x3c\x00\x28" * 9),
    spec.Basic.Ack(5, True),
    spec.Basic.Consume(queue="heimdall.inference", consumer_tag="one"),
)


def test_methods_are_found() -> None:
    """Whole frames are found with their places; what looks like one inside a body is not."""
    found = list(frames(b"".join(FRAMES)))
    assert [frame.method for frame in found] == [PUBLISH, None, ACK, CONSUME]
    assert [frame.size for frame in found] == [len(frame) for frame in FRAMES]
    assert holds(b"".join(FRAMES), ACK)
    assert not holds(FRAMES[0] + FRAMES[1], ACK)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60))
def test_pieces_of_any_size(sizes: list[int]) -> None:
    """Cut into any pieces, a stream has the same frames at the same places."""
    whole = HEADER + b"".join(FRAMES)
    stream, found, at = FrameStream(), [], 0
    for size in [*sizes, len(whole)]:
        found += stream.feed(whole[at : at + size])
        at = min(at + size, len(whole))
    assert found == list(frames(whole))
    assert stream.seen == len(whole)


def test_what_is_no_frame() -> None:
    """Bytes that are no frame, or not all of one, give none."""
    assert list(frames(b"+OK\r\n$5\r\nhello")) == []
    assert list(frames(FRAMES[0][:-1])) == []


def test_acknowledging_at_once() -> None:
    """The consumer of the jobs asks for no acknowledgements, none is sent, and all else stays as it was."""
    other = marshalled(spec.Basic.Consume(queue="amq.gen-control", consumer_tag="two"))[0]
    changed = acknowledging_at_once(b"".join([*FRAMES, other]), "heimdall.inference")
    kept = list(frames(changed))
    assert [frame.method for frame in kept] == [PUBLISH, None, CONSUME, CONSUME]
    consumed = [pamqp.frame.unmarshal(changed[f.start : f.start + f.size])[2] for f in kept if f.method == CONSUME]
    assert [(method.queue, method.no_ack) for method in consumed] == [
        ("heimdall.inference", True),
        ("amq.gen-control", False),
    ]
