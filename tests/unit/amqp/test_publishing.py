"""Publishing on a real broker: in one write, and one by one; both must end alike."""

import asyncio
from uuid import uuid4

import aio_pika
import aiormq.exceptions
import pytest

from worker.amqp.publishing import Publication, Publisher

WAYS = pytest.mark.parametrize("together", [True, False], ids=["together", "one by one"])


@pytest.fixture
async def channel(broker):
    """A channel in confirm mode that raises returns."""
    async with await aio_pika.connect(broker.url) as connection:
        yield await connection.channel(on_return_raises=True)


async def publisher(channel, *, together):
    """The publisher of that way on a channel."""
    return Publisher(await channel.get_underlay_channel(), together=together)


def to(queue, body=b"x", **options):
    """A message that somebody must take."""
    return Publication("", queue, body, "application/json", mandatory=True, **options)


async def bodies(queue, count):
    """Bodies that lie in a queue."""
    return [(await queue.get(no_ack=True, timeout=5)).body for _ in range(count)]


async def test_this_version_of_the_library_publishes_together(channel):
    """The installed library is one that the fast way was tested with."""
    assert Publisher(await channel.get_underlay_channel()).together


async def test_another_version_of_the_library_publishes_one_by_one(channel, monkeypatch):
    """With a release that may have other attributes, the public method is used."""
    monkeypatch.setattr("worker.amqp.publishing._TESTED_WITH", ("0.0.",))
    assert not Publisher(await channel.get_underlay_channel()).together


@WAYS
async def test_messages_arrive_in_order_with_their_properties(channel, together):
    """Bodies of no, some and many bytes, over more than one frame, and every property that is set."""
    queue = await channel.declare_queue(exclusive=True)
    sent = [b"", b"a", b"b" * 300_000]
    way = await publisher(channel, together=together)
    publications = [to(queue.name, body, correlation_id=f"c{len(body)}", headers={"n": len(body)}) for body in sent]
    assert await way.publish([*publications, to(queue.name, b"kept", persistent=True)]) == [True] * 4
    messages = [await queue.get(no_ack=True, timeout=5) for _ in range(4)]
    assert [message.body for message in messages] == [*sent, b"kept"]
    assert [message.correlation_id for message in messages] == ["c0", "c1", "c300000", None]
    assert [message.headers for message in messages] == [{"n": 0}, {"n": 1}, {"n": 300_000}, {}]
    assert [message.delivery_mode for message in messages] == [1, 1, 1, 2]
    assert {message.content_type for message in messages} == {"application/json"}


@WAYS
async def test_what_no_queue_takes_is_told_apart(channel, together):
    """A returned message is no failure of the others, nor of the batches after it."""
    queue = await channel.declare_queue(exclusive=True)
    way = await publisher(channel, together=together)
    nobody = to(f"nobody-{uuid4().hex}")
    assert await way.publish([to(queue.name, b"1"), nobody, to(queue.name, b"2"), nobody]) == [True, False, True, False]
    assert await way.publish([to(queue.name, b"3")]) == [True]
    assert await bodies(queue, 3) == [b"1", b"2", b"3"]


@WAYS
async def test_what_a_full_queue_refuses_is_told_apart(channel, together):
    """A queue that rejects publishes refuses the messages beyond its length, and no other."""
    full = {"x-max-length": 2, "x-overflow": "reject-publish"}
    queue = await channel.declare_queue(exclusive=True, arguments=full)
    way = await publisher(channel, together=together)
    taken = await way.publish([to(queue.name, bytes([n])) for n in range(4)])
    assert taken.count(True) == 2
    assert len(await bodies(queue, 2)) == 2
    assert await way.publish([to(queue.name)]) == [True]


@WAYS
async def test_many_batches_at_once_keep_their_confirms_apart(channel, together):
    """Each batch hears of its own messages, whatever others publish meanwhile."""
    queue = await channel.declare_queue(exclusive=True)
    way = await publisher(channel, together=together)
    nobody = f"nobody-{uuid4().hex}"
    batches = [[to(queue.name if (b + n) % 3 else nobody) for n in range(20)] for b in range(10)]
    answers = await asyncio.gather(*(way.publish(batch) for batch in batches))
    assert answers == [[bool((b + n) % 3) for n in range(20)] for b in range(10)]


@WAYS
async def test_a_channel_that_closes_ends_the_wait(channel, together):
    """A publish to an exchange that is not there closes the channel: whoever waits for a confirm hears of it."""
    way = await publisher(channel, together=together)
    lost = Publication(f"none-{uuid4().hex}", "x", b"x", "application/json")
    with pytest.raises(aiormq.exceptions.AMQPError):
        await asyncio.wait_for(way.publish([lost]), 10)
    with pytest.raises((aiormq.exceptions.AMQPError, RuntimeError)):
        await asyncio.wait_for(way.publish([lost]), 10)


async def test_nothing_is_left_behind(channel):
    """Confirms and returned messages are forgotten once a batch is done."""
    queue = await channel.declare_queue(exclusive=True)
    underlay = await channel.get_underlay_channel()
    way = Publisher(underlay, together=True)
    await way.publish([to(queue.name), to(f"nobody-{uuid4().hex}"), to(queue.name)])
    await way.publish([to(queue.name)])
    await asyncio.sleep(0.1)
    assert not underlay.confirmations
    assert not underlay.message_id_delivery_tag


async def test_no_messages_need_no_broker(channel):
    """An empty batch is done."""
    assert await (await publisher(channel, together=True)).publish([]) == []
