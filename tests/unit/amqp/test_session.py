"""Sessions with a real broker, and against one that fails half-way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import aio_pika
import pytest

from tests.unit.client.fakes import Proxy, eventually
from worker.amqp import session
from worker.amqp.flow import Flow
from worker.amqp.publishing import Publication
from worker.amqp.session import AmqpSession, open_session
from worker.amqp.topology import Topology
from worker.errors import Unavailable

PREFETCH = 4


class SilentConnection:
    """Open, and its peer says nothing more."""

    writer = transport = property(lambda self: self)

    async def close(self):
        """Waits for an answer that never comes."""
        await asyncio.Event().wait()

    def abort(self):
        """Ends it."""


async def test_a_silent_peer_does_not_hide_why_the_session_is_not_open(monkeypatch):
    """The first connection cannot be closed in time; what is said is why the second did not open."""
    opened = iter([SilentConnection()])

    async def connect(url, name):
        for connection in opened:
            return connection
        raise ConnectionResetError("reset by peer")

    monkeypatch.setattr(session, "_connect", connect)
    monkeypatch.setattr(session, "CLOSE_TIMEOUT_S", 0.01)
    topology = Topology(queue="q", routing_key="r", queue_max_bytes=1, dead_max_bytes=1, declare=False)
    with pytest.raises(Unavailable, match="reset by peer"):
        await open_session("amqp://broker/", topology, prefetch_count=1, confirm_timeout=1, name="w")


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[AmqpSession]:
    """A session on a queue of its own."""
    queue = f"test-{uuid4()}"
    topology = Topology(queue=queue, routing_key=queue, queue_max_bytes=2**20, dead_max_bytes=2**20, declare=True)
    it = await open_session(url, topology, prefetch_count=PREFETCH, confirm_timeout=30, name="w")
    try:
        yield it
    finally:
        await it.close()


async def test_a_pause_does_not_let_more_in_than_the_prefetch(broker):
    """A consumer that starts anew has a prefetch of its own: it starts when what is held is settled."""
    flow, got = Flow(), []
    async with opened(broker.url) as it, await aio_pika.connect(broker.url) as connection:
        channel = await connection.channel()
        for number in range(3 * PREFETCH):
            await channel.default_exchange.publish(aio_pika.Message(b"%d" % number), it._queue)
        consuming = asyncio.ensure_future(it.consume(flow, got.append))
        await eventually(lambda: len(got) == PREFETCH)
        for _ in range(2):
            flow.stop("store")
            await eventually(it.idle.is_set)
            flow.clear("store")
            await asyncio.sleep(0.2)
        assert (it.held, len(got)) == (PREFETCH, PREFETCH)
        it.ack(got[:1])
        await asyncio.sleep(0.2)
        assert len(got) == PREFETCH
        it.ack(got[1:])
        await eventually(lambda: len(got) == 2 * PREFETCH)
        it.release(got[PREFETCH:])
        await eventually(lambda: len(got) == 3 * PREFETCH)
        consuming.cancel()


async def test_a_blocked_broker_does_not_keep_a_session_from_closing(broker, monkeypatch):
    """Megabytes that it does not read are still to be sent when the session ends."""
    monkeypatch.setattr(session, "CLOSE_TIMEOUT_S", 0.5)
    proxy = Proxy(broker.url)
    async with asyncio.timeout(30), proxy.running() as url:
        async with opened(url) as it:
            proxy.thawed.clear()
            publications = [Publication("", it._queue, bytes(4 * 2**20), "application/json") for _ in range(8)]
            publishing = asyncio.ensure_future(it.publish(publications))
            await asyncio.sleep(0.3)
            assert it.publisher.writer.transport.get_write_buffer_size() > 0
        with pytest.raises(Unavailable):
            await publishing
