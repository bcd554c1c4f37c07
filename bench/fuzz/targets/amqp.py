"""Properties and headers of a job as the broker passes them on: decoded, judged, and told in a dead letter.

Input: the property flags and values of a content header frame; the harness puts the frame around them, as a broker
does. A frame that the library itself cannot split into properties never comes from a broker: it ends the connection.
"""

import asyncio
import struct
from random import Random
from typing import Any, Final, cast

import pamqp.commands
import pamqp.constants
import pamqp.encode
import pamqp.frame
from aiormq.exceptions import InvalidFrameError

from bench.fuzz import field_tables as wire
from bench.fuzz.mutations import as_json, spoil_bytes, spoil_json
from bench.fuzz.target import REFUSED, TAKEN, Target
from bench.fuzz.targets.recordings import check_refusal
from worker.amqp.delivery import Delivery, read_delivery
from worker.amqp.message import Message
from worker.amqp.receiving import read_delivery_frames
from worker.amqp.replies import refuse_reply_to
from worker.amqp.session import AmqpSession
from worker.amqp.stream import DELIVER, FrameReader
from worker.job import Job
from worker.outgoing import dead_letter, is_dead, reply
from worker.results import error_outcome

MAX_BODY_BYTES: Final = 4096
BASIC: Final = 60
CHANNEL: Final = 1
_LOOP: Final = asyncio.new_event_loop()
_MAX_HEADER_BYTES: Final = 131_064
"""Above which the broker, and so our own publish, would end a connection."""
_DIGEST_BYTES: Final = 32
_SESSION: Final = cast("AmqpSession", object())
_BODIES: Final = (b"{}", b"")
_READ: Final = (b"session_id", b"capture_time", b"deadline_ms", b"confidence", b"cache_enabled", b"continue_on_error")
_ADDRESSES: Final = (
    b"amq.gen-abc",
    b"amq.rabbitmq.reply-to.x",
    b"heimdall.reply.alice.q",
    b"heimdall.reply.bob.q",
    b"heimdall.dead",
    b"\xff",
)


def run(data: bytes) -> str:
    """Read the delivery; a job that is refused can be answered and dead-lettered, whatever its headers held."""
    try:
        message = delivered(data)
    except InvalidFrameError:
        return REFUSED
    delivery = read_delivery(_SESSION, message, MAX_BODY_BYTES)
    assert delivery.reply_to is None or not refuse_reply_to(delivery.reply_to, delivery.user_id)
    assert delivery.suspect in {True, False}
    assert delivery.claimed_digest is None or len(delivery.claimed_digest) == _DIGEST_BYTES
    assert delivery.queued_s is None or delivery.queued_s >= 0
    _check_settling(delivery)
    return REFUSED if delivery.problem else TAKEN


def delivered(data: bytes) -> Message:
    """The message that is made of a delivery with these properties, which came in two pieces.

    Raises:
        aiormq.exceptions.InvalidFrameError: it cannot be read at all.
    """
    body = _BODIES[len(data) % len(_BODIES)]
    stream = frames(struct.pack(">HxxQ", BASIC, len(body)) + data, body, redelivered=len(data) % 3 == 1)
    taken: list[Message] = []
    reader = FrameReader(_LOOP)
    reader.divert(CHANNEL, (DELIVER,), lambda *parts: taken.append(read_delivery_frames(*parts)))
    cut = sum(data[:2]) % len(stream)
    reader.feed_data(stream[:cut])
    reader.feed_data(stream[cut:])
    (message,) = taken
    assert message.body == body
    return message


def frames(header: bytes, body: bytes, *, redelivered: bool) -> bytes:
    """A delivery on the wire."""
    deliver = pamqp.commands.Basic.Deliver("consumer", 1, redelivered, "heimdall.iq", "localize")
    content = (
        struct.pack(">BHI", kind, CHANNEL, len(payload)) + payload + b"\xce"
        for kind, payload in ((pamqp.constants.FRAME_HEADER, header), (pamqp.constants.FRAME_BODY, body))
        if payload
    )
    return b"".join((pamqp.frame.marshal(deliver, CHANNEL), *content))


def _check_settling(delivery: Delivery) -> None:
    job = Job(delivery)
    job.digest_input()
    job.error = delivery.problem
    if job.error is None:
        return
    check_refusal(job.error)
    job.outcome = error_outcome(job, job.error)
    assert is_dead(job)
    answer = reply(job)
    assert answer is None or answer.routing_key == delivery.reply_to
    letter = dead_letter(job, "w-1")
    assert not {"CC", "BCC"} & letter.headers.keys()
    assert len(pamqp.encode.field_table(dict(letter.headers))) < _MAX_HEADER_BYTES


def valid(rng: Random) -> bytes:
    """Properties of a job whose envelope is sound."""
    return wire.content(_properties(rng, _headers(rng)))


def make(rng: Random) -> bytes:
    """Sound, with odd headers, with odd properties, or with odd bytes."""
    match rng.randrange(6):
        case 0:
            return valid(rng)
        case 1:
            return spoil_bytes(rng, valid(rng))
        case 2 | 3:
            keys = (*_READ, b"claim", b"sigmf", b"x-delivery-count", b"CC", b"BCC", b"x-death", b"", b"\xff")
            odd = [(rng.choice(keys), wire.value(rng)) for _ in range(rng.randrange(1, 4))]
            return wire.content(_properties(rng, [*_headers(rng), *odd, *_claim(rng)]))
        case _:
            return wire.content(_odd_properties(rng))


def _headers(rng: Random) -> list[tuple[bytes, bytes]]:
    sound = [
        (b"session_id", wire.long_text(b"s-1")),
        (b"capture_time", wire.long_text(b"2026-01-01T00:00:00.123456789Z")),
        (b"deadline_ms", b"l" + struct.pack(">q", 2**41)),
        (b"confidence", wire.array([b"d" + struct.pack(">d", 0.5), b"f" + struct.pack(">f", 0.95)])),
        (b"cache_enabled", b"t\x01"),
        (b"sigmf", wire.long_text(b"{}")),
    ]
    return [entry for entry in sound if rng.random() < 0.6]


def _claim(rng: Random) -> list[tuple[bytes, bytes]]:
    urls = ("s3://jobs/iq/1", "file:///iq/1", "file:///iq/../../etc/passwd", "http://127.0.0.1/1", "s3://jobs/%2e%2e/1")
    claim: Any = {"url": rng.choice(urls), "size": rng.choice((1, 2**62)), "sha256": "0a" * 32}
    if rng.random() < 0.5:
        claim = spoil_json(rng, claim)
    return [(b"claim", wire.long_text(as_json(rng, claim)))] if rng.random() < 0.3 else []


def _properties(rng: Random, headers: list[tuple[bytes, bytes]]) -> dict[str, bytes]:
    properties = {
        "content_type": wire.short_text(rng.choice((b"application/json", b"application/octet-stream"))),
        "headers": wire.table(headers),
        "correlation_id": wire.short_text(b"c-1"),
        "reply_to": wire.short_text(rng.choice(_ADDRESSES[:3])),
        "message_id": wire.short_text(b"job-1"),
        "user_id": wire.short_text(b"alice"),
    }
    if rng.random() < 0.5:
        properties |= {"delivery_mode": b"\x02", "priority": b"\x00", "timestamp": struct.pack(">Q", 1_700_000_000)}
    return properties


def _odd_properties(rng: Random) -> dict[str, bytes]:
    properties = _properties(rng, _headers(rng))
    for _ in range(rng.randrange(1, 4)):
        name = rng.choice(wire.PROPERTIES)
        if name == "headers":
            properties[name] = wire.table([(b"x", wire.value(rng))])
        elif name in {"delivery_mode", "priority"}:
            properties[name] = bytes([rng.randrange(256)])
        elif name == "timestamp":
            properties[name] = rng.choice((b"\xff" * 8, b"\x00" * 8, rng.randbytes(8)))
        elif name == "reply_to":
            properties[name] = wire.short_text(rng.choice(_ADDRESSES))
        else:
            properties[name] = wire.short_text(rng.randbytes(rng.choice((0, 1, 20, 255))))
    return properties


TARGET: Final = Target("amqp", valid, make, run)
