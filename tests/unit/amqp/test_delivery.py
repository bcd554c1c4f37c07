from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.problems import ErrorCode
from tests.unit.amqp.messages import Message, sigmf_message
from worker.amqp.delivery import read_delivery

MAX_BODY = 1000
SESSION = object()

# What an AMQP table may hold, as the library decodes it.
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=True, allow_infinity=True)
    | st.text(max_size=20)
    | st.binary(max_size=20)
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.datetimes(timezones=st.just(UTC))
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
names = st.sampled_from(
    [
        "session_id",
        "capture_time",
        "deadline_ms",
        "confidence",
        "cache_enabled",
        "continue_on_error",
        "sigmf",
        "x-delivery-count",
        "x-death",
        "CC",
        "other",
    ]
)
NOT_TEXT = [5, 1.5, True, Decimal("1.5"), datetime(2026, 1, 1, tzinfo=UTC), [1], {"a": 1}]


def read(message):
    """Read a message."""
    return read_delivery(SESSION, message, MAX_BODY)


def test_a_sound_envelope_is_read():
    """Properties and headers are as they were sent; there is no problem."""
    message = Message(
        message_id="a.B-9_",
        correlation_id="c",
        reply_to="amq.gen-x",
        user_id="alice",
        content_type="application/json",
        headers={"session_id": "s", "confidence": [0.5, 0.9], "deadline_ms": 5, "cache_enabled": False},
    )
    delivery = read(message)
    assert delivery.problem is None
    assert (delivery.job_id, delivery.correlation_id, delivery.reply_to) == ("a.B-9_", "c", "amq.gen-x")
    assert (delivery.user_id, delivery.content_type, delivery.body) == (
        "alice",
        "application/json",
        b"x",
    )
    assert delivery.session is SESSION
    assert delivery.headers.confidences == (0.5, 0.9)
    assert delivery.headers.session_id == "s"
    assert not delivery.headers.cache_enabled
    assert not delivery.suspect


@pytest.mark.parametrize("message_id", [None, "", "a b", "a/b", "a" * 129, "heimdall:result:x", "a\n", "é"])
def test_a_job_needs_a_plain_id(message_id):
    """Without a valid id nothing can be stored; the refusal says what an id is."""
    delivery = read(Message(message_id=message_id))
    assert delivery.job_id is None
    assert delivery.problem is not None
    assert delivery.problem.code is ErrorCode.MALFORMED_ENVELOPE
    assert "message_id" in delivery.problem.detail


@pytest.mark.parametrize(
    "content_type", [None, "", "text/plain", "application/json; charset=utf-8", "APPLICATION/JSON"]
)
def test_the_content_type_is_one_of_two(content_type):
    """The content type selects the body; another is refused, the job's id stays known."""
    delivery = read(Message(content_type=content_type))
    assert delivery.job_id == "job-1"
    assert delivery.problem is not None
    assert "content_type" in delivery.problem.detail


def test_long_texts_of_a_publisher_are_cut():
    """A refusal repeats only the beginning of what was sent."""
    for message in (Message(message_id="!" * 255), Message(content_type="!" * 255), Message(reply_to="!" * 255)):
        problem = read(message).problem
        assert problem is not None
        assert len(problem.detail) < 400


def test_a_long_correlation_id_is_refused():
    """255 characters are taken, 256 are not."""
    assert read(Message(correlation_id="c" * 255)).problem is None
    problem = read(Message(correlation_id="c" * 256)).problem
    assert problem is not None
    assert "correlation_id" in problem.detail


def test_a_large_body_is_refused_unread():
    """The limit counts bytes, and the limit itself is taken."""
    assert read(Message(body=b"x" * MAX_BODY)).problem is None
    problem = read(Message(body=b"x" * (MAX_BODY + 1))).problem
    assert problem is not None
    assert problem.code is ErrorCode.TOO_LARGE
    assert "1001 bytes; the limit is 1000" in problem.detail


def test_metadata_over_64_kib_are_refused():
    """The header `sigmf` has its own limit and error."""
    assert read(Message(headers={"sigmf": "x" * 65_536})).problem is None
    for text in ("x" * 65_537, b"x" * 65_537):
        problem = read(Message(headers={"sigmf": text})).problem
        assert problem is not None
        assert problem.code is ErrorCode.TOO_LARGE


def test_metadata_are_counted_in_bytes():
    """64 KiB are bytes, whatever the alphabet."""
    problem = read(Message(headers={"sigmf": "é" * 40_000})).problem
    assert problem is not None


@pytest.mark.parametrize(
    ("headers", "pointer"),
    [
        ({"confidence": 2}, "headers/confidence"),
        ({"confidence": [0.5, 2]}, "headers/confidence"),
        ({"session_id": ""}, "headers/session_id"),
        ({"deadline_ms": "soon"}, "headers/deadline_ms"),
        ({"deadline_ms": datetime(2026, 1, 1, tzinfo=UTC)}, "headers/deadline_ms"),
        ({"capture_time": datetime(2026, 1, 1, tzinfo=UTC)}, "headers/capture_time"),
        ({"capture_time": "yesterday"}, "headers/capture_time"),
        ({"cache_enabled": "perhaps"}, "headers/cache_enabled"),
        ({"sigmf": ["{}"]}, "headers/sigmf"),
        ({"sigmf": {"global": {}}}, "headers/sigmf"),
    ],
)
def test_a_wrong_header_is_named(headers, pointer):
    """The particulars point to the header; the defaults stand in for all of them."""
    delivery = read(Message(headers=headers))
    assert delivery.problem is not None
    assert delivery.problem.code is ErrorCode.MALFORMED_ENVELOPE
    assert any((e.pointer or "").startswith(pointer) for e in delivery.problem.errors)
    assert delivery.headers.confidences == (0.68, 0.95)


def test_text_may_come_as_bytes():
    """Some clients send text as byte arrays; what is no UTF-8 is refused."""
    delivery = read(Message(headers={"session_id": "Zürich".encode(), "confidence": b"0.5", "sigmf": b"{}"}))
    assert delivery.problem is None
    assert delivery.headers.session_id == "Zürich"
    assert delivery.headers.confidences == (0.5,)
    assert delivery.sigmf == b"{}"
    problem = read(Message(headers={"session_id": b"\xff"})).problem
    assert problem is not None
    assert "session_id is not UTF-8" in problem.detail


def test_single_precision_means_the_number_that_was_written():
    """0.95 sent as a float of four bytes is 0.95, not 0.94999998; a double keeps every digit."""
    delivery = read(Message(headers={"confidence": [0.949999988079071, 0.123456789012345, Decimal("0.5")]}))
    assert delivery.headers.confidences == (0.95, 0.123456789012345, 0.5)


@pytest.mark.parametrize(("value", "confidence"), [(0.5, 0.5), ("0.5", 0.5), (Decimal("0.5"), 0.5)])
def test_a_number_is_a_number_in_any_type(value, confidence):
    """AMQP has several types for a number; each is read."""
    assert read(Message(headers={"confidence": value})).headers.confidences == (confidence,)


@given(st.dictionaries(names, values, max_size=5))
@settings(max_examples=300)
def test_no_header_of_any_type_raises(headers):
    """Whatever an AMQP table holds, the envelope is read, and what is wrong stands in the problem."""
    if isinstance(headers.get("sigmf"), str | bytes | list | dict | None):
        delivery = read(Message(headers=headers))
        assert delivery.problem is None or delivery.problem.code in {
            ErrorCode.MALFORMED_ENVELOPE,
            ErrorCode.TOO_LARGE,
        }
        assert isinstance(delivery.crashes, int)


@pytest.mark.parametrize("value", [v for v in NOT_TEXT if not isinstance(v, list | dict)])
def test_metadata_of_another_type_are_refused(value):
    """A header `sigmf` that is a number, a flag or an instant is a malformed envelope."""
    problem = read(Message(headers={"sigmf": value})).problem
    assert problem is not None
    assert problem.code is ErrorCode.MALFORMED_ENVELOPE


def test_no_headers_are_the_defaults():
    """A message without a header table is a job like any other."""
    assert read(replace(Message(), headers={})).problem is None


HOSTILE = [
    "heimdall.inference",
    "heimdall.dead",
    "heimdall.iq",
    "amq.topic",
    "amq.genx",
    "amq.gen-",
    "amq.rabbitmq.reply-to",
    "amq.rabbitmq.reply-t.x",
    "amq.gen-a b",
    "amq.gen-a\n",
    "amq.gen-é",
    " amq.gen-a",
    "heimdall.reply.bob.q",
    "heimdall.reply.alice",
    "heimdall.reply.alice.",
    "heimdall.reply.alicex.q",
    "heimdall.reply..q",
    "heimdall.reply.None.q",
    "HEIMDALL.reply.alice.q",
    "amq.gen-" + "x" * 201,
    "heimdall.reply.alice." + "x" * 250,
]


@pytest.mark.parametrize("address", HOSTILE)
@pytest.mark.parametrize("user", ["alice", None])
def test_known_tricks_are_refused(address, user):
    """Job queues, other users' queues, names that only look right: none gets a reply, and none is kept."""
    delivery = read(Message(reply_to=address, user_id=user))
    assert delivery.reply_to is None
    assert delivery.problem is not None
    assert "is refused" in delivery.problem.detail


@pytest.mark.parametrize(
    ("address", "user"),
    [
        ("amq.rabbitmq.reply-to.g1h2AA5yZXBseUA0MDU4MzI4Nw==.x", None),
        ("amq.gen-JzTY20BRgKO-HjmUJj0wLg", None),
        ("heimdall.reply.alice.laptop-1", "alice"),
        ("heimdall.reply.alice.q", "alice"),
    ],
)
def test_proper_addresses_are_kept(address, user):
    """What a requester really uses is taken."""
    delivery = read(Message(reply_to=address, user_id=user))
    assert delivery.problem is None
    assert delivery.reply_to == address


@pytest.mark.parametrize(
    ("redelivered", "headers", "crashes", "suspect"),
    [
        (False, {}, 0, False),
        (True, {}, 1, False),
        (True, {"x-delivery-count": 1}, 1, False),
        (True, {"x-delivery-count": 2}, 2, True),
        (True, {"x-delivery-count": 90}, 90, True),
        (True, {"x-delivery-count": "many"}, 0, False),
    ],
)
def test_a_job_seen_twice_before_is_suspect(redelivered, headers, crashes, suspect):
    """The broker's count decides; a queue that does not count says only that it was delivered before."""
    delivery = read(Message(redelivered=redelivered, headers=headers))
    assert (delivery.crashes, delivery.suspect, delivery.redelivered) == (crashes, suspect, redelivered)


def test_a_publisher_cannot_make_its_job_suspect():
    """Suspects stop everything beside them: a count that the publisher wrote is not the broker's."""
    assert not read(Message(redelivered=False, headers={"x-delivery-count": 9})).suspect


def test_time_in_the_queue_is_known_where_the_publisher_says_when():
    """Publish to delivery, never negative; unknown without a timestamp."""
    now = datetime.now(UTC)
    waited = read(Message(timestamp=now - timedelta(seconds=100))).queued_s
    assert waited is not None
    assert waited >= 100
    assert read(Message(timestamp=now + timedelta(days=1))).queued_s == 0
    assert read(Message()).queued_s is None


def test_a_whole_job_passes():
    """A job as clients send it has no problem."""
    message = sigmf_message(2)
    delivery = read_delivery(SESSION, message, 10_000_000)
    assert delivery.problem is None
    assert delivery.sigmf == message.headers["sigmf"]
