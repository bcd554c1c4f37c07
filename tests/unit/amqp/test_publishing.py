"""Publishing on a real broker: in one write, each message with an end of its own."""

import asyncio
from uuid import uuid4

import aio_pika
import aiormq.exceptions
import pytest

from worker.amqp.publishing import Publication, Publisher
from worker.amqp.stream import StreamConnection


@pytest.fixture
async def connection(broker):
    """A connection with a stream of its own."""
    async with await aio_pika.connect(broker.url, connection_class=StreamConnection) as opened:
        yield opened


@pytest.fixture
async def channel(connection):
    """Another channel, for the queues."""
    return await connection.channel()


@pytest.fixture
async def way(connection):
    """A publisher on its own channel."""
    own = await connection.channel()
    return Publisher(connection, await own.get_underlay_channel())


def to(queue, body=b"x", **options):
    """A message that somebody must take."""
    return Publication("", queue, body, "application/json", mandatory=True, **options)


async def bodies(queue, count):
    """Bodies that lie in a queue."""
    return [(await queue.get(no_ack=True, timeout=5)).body for _ in range(count)]


async def test_messages_arrive_in_order_with_their_properties(channel, way):
    """Bodies of no, some and many bytes, over more than one frame, and every property that is set."""
    queue = await channel.declare_queue(exclusive=True)
    sent = [b"", b"a", b"b" * 300_000]
    publications = [to(queue.name, body, correlation_id=f"c{len(body)}", headers={"n": len(body)}) for body in sent]
    assert await way.publish([*publications, to(queue.name, b"kept", persistent=True)]) == [True] * 4
    messages = [await queue.get(no_ack=True, timeout=5) for _ in range(4)]
    assert [message.body for message in messages] == [*sent, b"kept"]
    assert [message.correlation_id for message in messages] == ["c0", "c1", "c300000", None]
    assert [message.headers for message in messages] == [{"n": 0}, {"n": 1}, {"n": 300_000}, {}]
    assert [message.delivery_mode for message in messages] == [1, 1, 1, 2]
    assert {message.content_type for message in messages} == {"application/json"}


async def test_what_no_queue_takes_is_told_apart(channel, way):
    """A returned message is no failure of the others, nor of the batches after it."""
    queue = await channel.declare_queue(exclusive=True)
    nobody = to(f"nobody-{uuid4().hex}")
    assert await way.publish([to(queue.name, b"1"), nobody, to(queue.name, b"2"), nobody]) == [True, False, True, False]
    assert await way.publish([to(queue.name, b"3")]) == [True]
    assert await bodies(queue, 3) == [b"1", b"2", b"3"]


async def test_what_a_full_queue_refuses_is_told_apart(channel, way):
    """A queue that rejects publishes refuses the messages beyond its length, and no other."""
    full = {"x-max-length": 2, "x-overflow": "reject-publish"}
    queue = await channel.declare_queue(exclusive=True, arguments=full)
    taken = await way.publish([to(queue.name, bytes([n])) for n in range(4)])
    assert taken.count(True) == 2
    assert len(await bodies(queue, 2)) == 2
    assert await way.publish([to(queue.name)]) == [True]


async def test_many_batches_at_once_keep_their_confirms_apart(channel, way):
    """Each batch hears of its own messages, whatever others publish meanwhile."""
    queue = await channel.declare_queue(exclusive=True)
    nobody = f"nobody-{uuid4().hex}"
    batches = [[to(queue.name if (b + n) % 3 else nobody) for n in range(20)] for b in range(10)]
    answers = await asyncio.gather(*(way.publish(batch) for batch in batches))
    assert answers == [[bool((b + n) % 3) for n in range(20)] for b in range(10)]


async def test_a_channel_that_closes_ends_the_wait(way):
    """A publish to an exchange that is not there closes the channel: whoever waits for a confirm hears of it."""
    lost = Publication(f"none-{uuid4().hex}", "x", b"x", "application/json")
    with pytest.raises(aiormq.exceptions.AMQPError):
        await asyncio.wait_for(way.publish([lost]), 10)
    with pytest.raises(aiormq.exceptions.AMQPError):
        await asyncio.wait_for(way.publish([lost]), 10)


async def test_a_connection_that_is_lost_ends_the_wait(connection, channel, way):
    """Whoever waits for a confirm that cannot come any more hears of it."""
    queue = await channel.declare_queue(exclusive=True)
    waiting = asyncio.create_task(way.publish([to(queue.name)]))
    await asyncio.sleep(0)
    connection.writer.transport.abort()
    with pytest.raises((aiormq.exceptions.AMQPError, ConnectionError)):
        await asyncio.wait_for(waiting, 10)


async def test_what_cannot_be_written_takes_nothing_with_it(channel, way):
    """A message that no frame can hold is an error of its batch; the confirms of later ones are still their own."""
    queue = await channel.declare_queue(exclusive=True)
    with pytest.raises(ValueError, match="256"):
        await way.publish([to(queue.name), to(queue.name, correlation_id="x" * 256)])
    assert await way.publish([to(queue.name, b"next"), to(f"nobody-{uuid4().hex}")]) == [True, False]
    assert await bodies(queue, 1) == [b"next"]


async def test_a_wait_that_was_given_up_disturbs_no_other(channel, way):
    """Confirms that nobody waits for any more are heard and forgotten."""
    queue = await channel.declare_queue(exclusive=True)
    given_up = asyncio.create_task(way.publish([to(queue.name)]))
    await asyncio.sleep(0)
    given_up.cancel()
    assert await way.publish([to(queue.name)]) == [True]
    assert len(await bodies(queue, 2)) == 2


async def test_nothing_is_left_behind(channel, way):
    """Confirms and returned messages are forgotten once a batch is done."""
    queue = await channel.declare_queue(exclusive=True)
    await way.publish([to(queue.name), to(f"nobody-{uuid4().hex}"), to(queue.name)])
    await way.publish([to(queue.name)])
    assert not way._open
    assert not way._returned


async def test_no_messages_need_no_broker(way):
    """An empty batch is done."""
    assert await way.publish([]) == []
