"""A worker on real servers, and a publisher that sees all that comes out of it."""

import asyncio
import json
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import aio_pika
import redis as redis_client
from aio_pika.abc import AbstractIncomingMessage

from deploy.local import ServiceProcess
from tests.support.models import metadata, tone
from worker.serving.registry import Registry

PATIENCE_S = 60.0
AS_IN_SERVICE = {"COVERAGE_PROCESS_CONFIG": "", "HEIMDALL_LOG_LEVEL": "INFO"}
"""A worker that is measured is neither traced nor talkative: either costs more than the job."""


@dataclass
class Station:
    """Addresses of one test's own world, and the workers started in it."""

    amqp_url: str
    redis_url: str
    tracking_uri: str
    settings: dict[str, str] = field(default_factory=dict)
    argv: Sequence[str] = (sys.executable, "-m", "worker")
    workers: list[ServiceProcess] = field(default_factory=list)
    _running: ExitStack = field(default_factory=ExitStack)

    @property
    def registry(self) -> Registry:
        """The model registry."""
        return Registry(self.tracking_uri, "heimdall")

    @property
    def redis(self) -> redis_client.Redis:
        """A plain client."""
        return redis_client.Redis.from_url(self.redis_url)

    def worker(self, *, argv: Sequence[str] | None = None, **settings: str) -> ServiceProcess:
        """A worker that is ready; stopped at the end of the test."""
        self.workers.append(self._running.enter_context(self.unready_worker(argv=argv, **settings)))
        return self.workers[-1]

    def unready_worker(self, *, argv: Sequence[str] | None = None, **settings: str) -> ServiceProcess:
        """A worker that is not started yet."""
        env = {
            "HEIMDALL_AMQP_URL": self.amqp_url,
            "HEIMDALL_REDIS_URL": self.redis_url,
            "HEIMDALL_MLFLOW_TRACKING_URI": self.tracking_uri,
            "HEIMDALL_CONTROL_USERS": "guest",
            "HEIMDALL_RELOAD_JITTER_S": "0",
            "HEIMDALL_LOG_LEVEL": "DEBUG",
        }
        return ServiceProcess(argv or self.argv, env | self.settings | settings)


@contextmanager
def station(amqp_url: str, redis_url: str, tracking_uri: str) -> Iterator[Station]:
    """A world on these servers, and no worker yet."""
    it = Station(amqp_url, redis_url, tracking_uri)
    with it._running:
        yield it


@dataclass(frozen=True)
class Answer:
    """A reply, an event or a dead letter."""

    content_type: str
    correlation_id: str | None
    headers: dict[str, Any]
    body: bytes
    routing_key: str

    @property
    def json(self) -> dict[str, Any]:
        """The body, read."""
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        """Code of an error, None for a result."""
        return self.json.get("code")


class Publisher:
    """Publishes jobs and collects replies, events and dead letters as they come."""

    def __init__(self, connection: aio_pika.abc.AbstractConnection, channel: aio_pika.abc.AbstractChannel) -> None:
        self.connection = connection
        self.channel = channel
        self.reply_queue = ""
        self.replies: dict[str, list[Answer]] = defaultdict(list)
        self.events: list[Answer] = []
        self.dead: list[Answer] = []
        self._news = asyncio.Event()

    async def publish(
        self,
        body: bytes | None = None,
        *,
        job_id: str | None = None,
        sigmf: dict[str, Any] | None = None,
        content_type: str = "application/octet-stream",
        headers: dict[str, Any] | None = None,
        properties: dict[str, Any] | None = None,
    ) -> str:
        """Publish one job, confirmed and not returned; its correlation id, which is unique."""
        correlation_id = uuid4().hex
        wire = dict(headers or {})
        if content_type == "application/octet-stream" and "sigmf" not in wire:
            wire["sigmf"] = json.dumps(sigmf or metadata())
        values: dict[str, Any] = {
            "message_id": job_id or uuid4().hex,
            "correlation_id": correlation_id,
            "reply_to": self.reply_queue,
            "content_type": content_type,
        } | (properties or {})
        message = aio_pika.Message(tone() if body is None else body, headers=wire, **values)
        exchange = await self.channel.get_exchange("heimdall.iq", ensure=False)
        await exchange.publish(message, "localize", mandatory=True, timeout=PATIENCE_S)
        return correlation_id

    async def reply(self, correlation_id: str) -> Answer:
        """The first reply to a job."""
        await self.until(lambda: bool(self.replies[correlation_id]))
        return self.replies[correlation_id][0]

    async def locate(self, body: bytes | None = None, **job: Any) -> Answer:
        """Publish and await the reply."""
        return await self.reply(await self.publish(body, **job))

    async def until(self, condition: Any, patience: float = PATIENCE_S) -> None:
        """Wait for something that arrivals bring about."""
        async with asyncio.timeout(patience):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def listen(self) -> None:
        """Consume replies, events and dead letters."""
        replies = await self.channel.declare_queue(exclusive=True)
        self.reply_queue = replies.name
        await replies.consume(self._on_reply, no_ack=True)
        events = await self.channel.declare_queue(exclusive=True)
        await events.bind("heimdall.events", "#")
        await events.consume(self._on_event, no_ack=True)
        dead = await self.channel.declare_queue("heimdall.dead", passive=True)
        await dead.consume(self._on_dead, no_ack=True)

    async def queue_counts(self, name: str = "heimdall.inference") -> int:
        """Messages ready in a queue."""
        queue = await self.channel.declare_queue(name, passive=True)
        return queue.declaration_result.message_count or 0

    async def _on_reply(self, message: AbstractIncomingMessage) -> None:
        self.replies[message.correlation_id or ""].append(_answer(message))
        self._news.set()

    async def _on_event(self, message: AbstractIncomingMessage) -> None:
        self.events.append(_answer(message))
        self._news.set()

    async def _on_dead(self, message: AbstractIncomingMessage) -> None:
        self.dead.append(_answer(message))
        self._news.set()


@asynccontextmanager
async def publisher(amqp_url: str) -> AsyncIterator[Publisher]:
    """A publisher on its own connection. A worker must have declared the topology before."""
    connection = await aio_pika.connect(amqp_url)
    async with connection:
        it = Publisher(connection, await connection.channel(on_return_raises=True))
        await it.listen()
        yield it


async def command(jobs: Publisher, **fields: str) -> dict[str, object]:
    """Give a control command as the publisher's user, and the first worker's answer."""
    correlation_id = uuid4().hex
    body = json.dumps({"command_id": correlation_id} | fields).encode()
    message = aio_pika.Message(body, correlation_id=correlation_id, reply_to=jobs.reply_queue, user_id="guest")
    exchange = await jobs.channel.get_exchange("heimdall.control", ensure=False)
    await exchange.publish(message, "worker.all", mandatory=True)
    return (await jobs.reply(correlation_id)).json


def _answer(message: AbstractIncomingMessage) -> Answer:
    return Answer(
        message.content_type or "",
        message.correlation_id,
        dict(message.headers),
        message.body,
        message.routing_key or "",
    )
