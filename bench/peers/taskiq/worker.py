"""A taskiq broker with one task."""

# mypy: disable-error-code="import-not-found, untyped-decorator, misc, no-any-unimported"
# The library lives in the peer's own environment, not in the one that checks types.

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import redis.asyncio
from taskiq import AckableMessage, TaskiqEvents, TaskiqState
from taskiq.serializers import PickleSerializer
from taskiq_aio_pika import AioPikaBroker, Exchange, Queue

from bench.peers.outcomes import EVENT_KEY, PeerSettings, event_message, reply_message, say_ready, store
from bench.peers.queue_peers import TASK
from bench.recipe import RawJob, Recipe


class ReplyingBroker(AioPikaBroker):
    """Keeps where the reply goes, which the broker of the library does not hand to tasks."""

    def __init__(self, url: str, queue: str, **options: Any) -> None:
        super().__init__(url, task_queues=[Queue(name=queue, declare=False)], **options)
        self.reply_to: dict[str, tuple[str, str | None]] = {}
        self._queue = queue

    async def listen(self) -> AsyncGenerator[AckableMessage, None]:
        """Deliveries, as the library's own `listen` yields them."""
        await self.read_channel.set_qos(prefetch_count=self._qos)
        queue = await self.read_channel.get_queue(self._queue)
        self.state.events = await self.write_channel.get_exchange(settings.events_exchange)
        async with queue.iterator() as messages:
            say_ready()
            async for message in messages:
                self.reply_to[message.message_id] = (message.reply_to, message.correlation_id)
                yield AckableMessage(data=message.body, ack=message.ack)


settings = PeerSettings.from_environment()
client = redis.asyncio.Redis.from_url(settings.redis_url)
broker = ReplyingBroker(
    settings.amqp_url,
    settings.queue,
    qos=settings.prefetch,
    exchange=Exchange(name=settings.events_exchange, declare=False),
    dead_letter_queue=Queue(name=settings.queue, declare=False),
).with_serializer(PickleSerializer())


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def prepare(state: TaskiqState) -> None:
    """Load the model in the process that computes."""
    state.recipe = Recipe(settings.model, settings.threads)


@broker.task(task_name=TASK)
async def locate(job_id: str, sigmf: str, body: bytes) -> None:
    """Store, reply and tell one job."""
    answer = broker.state.recipe.locate([RawJob(job_id, sigmf, body)])[0]
    result = (await store(client, [(job_id, answer.result)]))[0]
    reply_to, correlation_id = broker.reply_to.pop(job_id)
    await asyncio.gather(
        broker.write_channel.default_exchange.publish(reply_message(result, correlation_id), reply_to, mandatory=False),
        broker.state.events.publish(event_message(answer), EVENT_KEY, mandatory=False),
    )
