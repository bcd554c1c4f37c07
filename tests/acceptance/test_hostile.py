"""Messages, queues and keys made to stall a worker: each is one job's own affair, and its neighbours are answered."""

import struct
from typing import Any

import aio_pika
import pamqp.encode
import pytest

from tests.support.models import tone
from tests.support.station import PATIENCE_S, Publisher, Station, publisher

NEIGHBOURS = 10
FAR_FUTURE = 2**63 - 1


def nested(depth: int) -> bytes:
    """Arrays within arrays, as a table value."""
    value = b""
    for _ in range(depth):
        value = b"A" + struct.pack(">I", len(value)) + value
    return value


def entry(key: bytes, value: bytes) -> bytes:
    """One entry of a table."""
    return bytes([len(key)]) + key + value


HEADERS = {
    "nested 900 deep": entry(b"x", nested(900)),
    "a key that is no text": entry(b"\xff\xfe", b"t\x01"),
    "an instant of no calendar": entry(b"x", b"T" + struct.pack(">Q", FAR_FUTURE)),
    "a session that is no text": entry(b"session_id", b"S" + struct.pack(">I", 2) + b"\xff\xfe"),
}


async def neighbours(jobs: Publisher) -> list[str | None]:
    """Codes of good jobs published behind the hostile one."""
    sent = [await jobs.publish(tone(seed)) for seed in range(NEIGHBOURS)]
    return [(await jobs.reply(correlation_id)).code for correlation_id in sent]


@pytest.mark.parametrize("kind", HEADERS)
async def test_headers_that_cannot_be_decoded(kind: str, own_station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a message is refused like any bad envelope, at its first delivery, and the connection stands."""
    worker = own_station.worker()
    raw, encode = HEADERS[kind], pamqp.encode.field_table

    def table(value: dict[str, Any] | None) -> bytes:
        return struct.pack(">I", len(raw)) + raw if value and "RAW" in value else encode(value)

    monkeypatch.setitem(pamqp.encode.METHODS, "table", table)
    async with publisher(own_station.amqp_url) as jobs:
        hostile = await jobs.publish(headers={"RAW": True, "sigmf": ""}, job_id="hostile")
        assert await neighbours(jobs) == [None] * NEIGHBOURS
        assert (await jobs.reply(hostile)).code == "malformed_envelope"
        await jobs.until(lambda: bool(jobs.dead))
    assert '"broker.lost"' not in worker.log_text()


async def test_a_time_stamp_of_no_calendar(own_station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    """A property that no calendar holds is none; the job is located."""
    worker = own_station.worker()
    monkeypatch.setitem(pamqp.encode.METHODS, "timestamp", lambda _: struct.pack(">Q", FAR_FUTURE))
    async with publisher(own_station.amqp_url) as jobs:
        assert (await jobs.locate(tone(1), properties={"timestamp": 1.0})).code is None
        assert await neighbours(jobs) == [None] * NEIGHBOURS
    assert '"broker.lost"' not in worker.log_text()


async def test_a_reply_queue_that_is_full(own_station: Station) -> None:
    """A reply that a full queue refuses is undeliverable; the job is done and nobody else waits for it."""
    worker = own_station.worker()
    async with publisher(own_station.amqp_url) as jobs:
        arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
        full = await jobs.channel.declare_queue(exclusive=True, arguments=arguments)
        for seed in range(4):
            await jobs.publish(tone(seed), job_id=f"full-{seed}", properties={"reply_to": full.name})
        assert await neighbours(jobs) == [None] * NEIGHBOURS
    assert all(own_station.redis.exists(f"heimdall:result:full-{seed}") for seed in range(4))
    assert '"broker.lost"' not in worker.log_text()


async def test_a_subscriber_of_events_that_is_full(own_station: Station) -> None:
    """An event that a subscriber's full queue refuses holds nobody up."""
    worker = own_station.worker()
    async with publisher(own_station.amqp_url) as jobs:
        arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
        full = await jobs.channel.declare_queue(exclusive=True, arguments=arguments)
        await full.bind("heimdall.events", "#")
        assert await neighbours(jobs) == [None] * NEIGHBOURS
    assert '"broker.lost"' not in worker.log_text()


@pytest.mark.parametrize("kind", ["garbage", "list"])
async def test_something_else_under_a_jobs_key(kind: str, own_station: Station) -> None:
    """What lies under a job's key and is no outcome makes that one job a conflict, and is left as it is."""
    worker = own_station.worker()
    key = "heimdall:result:odd"
    if kind == "garbage":
        own_station.redis.set(key, b"garbage")
    else:
        own_station.redis.lpush(key, b"x")
    async with publisher(own_station.amqp_url) as jobs:
        odd = await jobs.publish(tone(1), job_id="odd")
        assert await neighbours(jobs) == [None] * NEIGHBOURS
        assert (await jobs.reply(odd)).code == "job_id_conflict"
    assert own_station.redis.exists(key)
    assert '"store.down"' not in worker.log_text()


async def test_a_property_that_is_no_text(own_station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job id of arbitrary bytes is a bad envelope, not a lost connection."""
    worker = own_station.worker()
    encode = pamqp.encode.short_string

    def short_string(value: str) -> bytes:
        return b"\x03\xff\xfe\xfd" if value == "RAW" else encode(value)

    monkeypatch.setitem(pamqp.encode.METHODS, "shortstr", short_string)
    async with publisher(own_station.amqp_url) as jobs:
        exchange = await jobs.channel.get_exchange("heimdall.iq", ensure=False)
        message = aio_pika.Message(
            tone(1),
            message_id="job",
            correlation_id="hostile",
            reply_to=jobs.reply_queue,
            content_type="RAW",
        )
        await exchange.publish(message, "localize", mandatory=True, timeout=PATIENCE_S)
        assert await neighbours(jobs) == [None] * NEIGHBOURS
        assert (await jobs.reply("hostile")).code == "malformed_envelope"
    assert '"broker.lost"' not in worker.log_text()
