"""The client when the connection, the queue or the worker fails."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit, urlunsplit

import aio_pika
import pytest

from client import (
    BrokerUnreachable,
    HeimdallClient,
    HeimdallError,
    LocalizationTimeout,
    PublishRefused,
)
from schemas.job import EXCHANGE
from tests.unit.client.fakes import (
    FakeWorker,
    Proxy,
    capture,
    declare_topology,
    eventually,
    fake_worker,
    result,
)


@pytest.fixture
async def worker(amqp_url: str) -> AsyncIterator[FakeWorker]:
    """A worker that locates everything in Torino."""
    async with fake_worker(amqp_url) as running:
        yield running


async def test_lost_reply_is_asked_for_again(amqp_url: str, worker: FakeWorker) -> None:
    """An unanswered job is published again: same id, same bytes, same headers."""
    worker.answer = lambda message: result(message.message_id or "") if len(worker.jobs) == 2 else None
    async with HeimdallClient(amqp_url) as client:
        await client.locate(capture(), timeout=10, attempt_timeout=0.3)
    first, second = worker.jobs
    assert (first.message_id, first.body, first.headers) == (second.message_id, second.body, second.headers)


async def test_timeout_names_the_job(amqp_url: str, worker: FakeWorker) -> None:
    """Silence ends in LocalizationTimeout with the id to ask again with; the repeat is one, not a storm."""
    worker.answer = lambda _: None
    async with HeimdallClient(amqp_url) as client:
        with pytest.raises(LocalizationTimeout, match="published 2 times") as caught:
            await client.locate(capture(), job_id="silent", timeout=0.6)
        assert caught.value.job_id == "silent"
        worker.answer = lambda message: result(message.message_id or "")
        await client.locate(capture())


async def test_late_reply_reaches_nobody_else(amqp_url: str, worker: FakeWorker) -> None:
    """A reply after its timeout is dropped, and the next call gets its own."""
    worker.answer = lambda _: None
    async with HeimdallClient(amqp_url) as client:
        with pytest.raises(LocalizationTimeout):
            await client.locate(capture(), job_id="late", timeout=0.3, attempt_timeout=1)
        worker.answer = lambda message: result(message.message_id or "")
        await worker.reply(worker.jobs[0], result("late"))
        assert (await client.locate(capture(), job_id="next")).job_id == "next"


async def test_cut_connection_is_made_anew(amqp_url: str, worker: FakeWorker) -> None:
    """Calls that wait when the connection breaks are answered over the next one."""
    held = asyncio.Event()
    proxy = Proxy(amqp_url)
    worker.answer = lambda message: result(message.message_id or "") if held.is_set() else None
    async with proxy.running() as url, HeimdallClient(url) as client:
        calls = [asyncio.create_task(client.locate(capture(), job_id=f"job-{i}", timeout=20)) for i in range(5)]
        await eventually(lambda: len(worker.jobs) == 5)
        held.set()
        proxy.cut()
        answers = await asyncio.gather(*calls)
    assert [answer.job_id for answer in answers] == [f"job-{i}" for i in range(5)]
    assert proxy.connections == 2


async def test_silent_broker_is_a_timeout(amqp_url: str, worker: FakeWorker) -> None:
    """A broker that stops answering does not hold a call longer than its timeout, nor the client's end."""
    proxy = Proxy(amqp_url)
    async with proxy.running() as url, asyncio.timeout(10), HeimdallClient(url) as client:
        proxy.thawed.clear()
        with pytest.raises((LocalizationTimeout, BrokerUnreachable)):
            await client.locate(capture(), timeout=1, attempt_timeout=0.4)


async def test_missing_exchange_is_refused(amqp_url: str) -> None:
    """Without the topology the error says what is missing, and the client stays usable."""
    async with HeimdallClient(amqp_url) as client:
        with pytest.raises(PublishRefused, match=EXCHANGE):
            await client.locate(capture())
        async with fake_worker(amqp_url):
            await client.locate(capture())


async def test_unroutable_job_is_refused(amqp_url: str) -> None:
    """An exchange that leads nowhere returns the job, and that is an error."""
    async with await aio_pika.connect(amqp_url) as connection:
        queue = await declare_topology(await connection.channel())
        await queue.unbind(EXCHANGE, "localize")
        async with HeimdallClient(amqp_url) as client:
            with pytest.raises(PublishRefused, match="no queue") as caught:
                await client.locate(capture())
    assert not caught.value.retriable


async def test_full_queue_is_refused_and_retriable(amqp_url: str) -> None:
    """A queue that refuses publishers is reported as such."""
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        await declare_topology(channel, **{"x-max-length": 1, "x-overflow": "reject-publish"})
        async with HeimdallClient(amqp_url) as client:
            outcomes = await client.locate_many([capture()] * 12, timeout=3, concurrency=1)
    refused = [outcome for outcome in outcomes if isinstance(outcome, PublishRefused)]
    assert refused
    assert all(error.retriable for error in refused)
    assert "full" in str(refused[0])


async def test_wrong_password_says_so_at_once(amqp_url: str) -> None:
    """A refused login is not tried again for ten seconds, and no password is shown."""
    parts = urlsplit(amqp_url)
    wrong = urlunsplit(
        parts._replace(netloc=f"{parts.username or 'guest'}:s3cret@{parts.hostname}:{parts.port or 5672}")
    )
    async with asyncio.timeout(5):
        with pytest.raises(BrokerUnreachable, match="login") as caught:
            async with HeimdallClient(wrong):
                pass
    assert "s3cret" not in str(caught.value)


async def test_nobody_listening_is_unreachable() -> None:
    """A closed port is an error after the connect timeout, with the reason."""
    with pytest.raises(BrokerUnreachable, match=r"refused|Connect"):
        async with HeimdallClient("amqp://localhost:1/", connect_timeout=0.5):
            pass


async def test_closed_client_does_not_reconnect(amqp_url: str, worker: FakeWorker) -> None:
    """After its block a client says that it is closed."""
    async with HeimdallClient(amqp_url) as client:
        pass
    with pytest.raises(HeimdallError, match="async with"):
        await client.locate(capture())
