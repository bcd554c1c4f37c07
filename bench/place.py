"""Where everything is measured: one broker, one Redis, one registry, and a queue for every subject."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import aio_pika
import redis

from bench.processes import named
from bench.workloads import Workload
from deploy.local import Stack
from worker.amqp.topology import Topology
from worker.config import Settings
from worker.serving.registry import Registry

AMQP_PORT: Final = 5672
_STEP_S: Final = 30.0
_BROKER_PROGRAM: Final = "beam.smp"
_STORE_PROGRAM: Final = "redis-server"


@dataclass
class Place:
    """A running stack.

    Attributes:
        stack: its servers.
        broker_pids, store_pids: their processes; none where they were given by URL.
    """

    stack: Stack
    broker_pids: list[int]
    store_pids: list[int]
    _models: dict[str, Path] = field(default_factory=dict)

    @property
    def amqp_url(self) -> str:
        """Of the broker."""
        return self.stack.broker.url

    @property
    def amqp_port(self) -> int:
        """Of the broker."""
        return urlsplit(self.amqp_url).port or AMQP_PORT

    def model(self, workload: Workload) -> Path:
        """The workload's model file, which is also version 1 of the registered model of its name."""
        if workload.name not in self._models:
            path = workload.model()
            Registry(self.stack.tracking_uri, workload.name).register(path)
            self._models[workload.name] = path
        return self._models[workload.name]

    def declare(self, queue: str) -> None:
        """Declare the exchanges, and a queue for jobs just as a worker would."""
        asyncio.run(_declare(self.amqp_url, queue))

    def consumers(self, queue: str) -> int:
        """How many consume from a queue."""
        return asyncio.run(_counts(self.amqp_url, queue))[1]

    def waiting(self, queue: str) -> int:
        """How many messages wait in a queue."""
        return asyncio.run(_counts(self.amqp_url, queue))[0]

    def purge(self, queue: str) -> None:
        """Remove what waits in a queue."""
        asyncio.run(_purge(self.amqp_url, queue))

    def forget_results(self) -> None:
        """Empty the store."""
        with redis.Redis.from_url(self.stack.store.url) as client:
            client.flushdb()


@contextmanager
def place() -> Iterator[Place]:
    """Start the stack; nothing is left when the block ends."""
    with Stack.running() as stack:
        yield Place(stack, named(_BROKER_PROGRAM), named(_STORE_PROGRAM))


async def _declare(url: str, queue: str) -> None:
    fields = Settings.model_fields
    topology = Topology(
        queue=queue,
        routing_key=routing_key(queue),
        queue_max_bytes=fields["queue_max_bytes"].default,
        dead_max_bytes=fields["dead_max_bytes"].default,
        declare=True,
    )
    async with await aio_pika.connect(url) as connection:
        await topology.establish(await connection.channel(), _STEP_S)


async def _counts(url: str, queue: str) -> tuple[int, int]:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        declared = (await channel.declare_queue(queue, passive=True)).declaration_result
        return declared.message_count or 0, declared.consumer_count or 0


async def _purge(url: str, queue: str) -> None:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await (await channel.get_queue(queue, ensure=False)).purge()


def routing_key(queue: str) -> str:
    """The routing key that leads to a subject's queue: a worker is told both."""
    return f"localize.{queue.rpartition('.')[2]}"
