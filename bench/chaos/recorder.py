"""The half of the load that takes every reply and event, and writes it down."""

import asyncio
import time
from contextlib import suppress
from typing import Any, Final

import orjson
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import AMQPError

from bench.chaos.jobs import Bodies, number_of
from bench.chaos.journal import Journal, digest
from bench.chaos.oracle import Answer
from schemas import events

USER: Final = "guest"
REPLIES: Final = f"heimdall.reply.{USER}.chaos"
EVENTS: Final = "chaos.events"
LOST: Final = (AMQPError, OSError, TimeoutError, RuntimeError)
"""What the library raises when a channel or connection is gone."""
STEP_TIMEOUT_S: Final = 5.0
_PREFETCH: Final = 1000


class Recorder:
    """Consumes the two queues; they are durable, so that what comes while it is away is there afterwards.

    Args:
        bodies: of the jobs, to see whether an answer fits.
        queue_type: of both queues.
        journal: to write to.
    """

    def __init__(self, bodies: Bodies, queue_type: str, journal: Journal) -> None:
        self._bodies = bodies
        self._queue_type = queue_type
        self._journal = journal

    async def use(self, connection: Any) -> None:
        """Consume on this connection for as long as it lasts."""
        channel = await asyncio.wait_for(connection.channel(publisher_confirms=False), STEP_TIMEOUT_S)
        await channel.basic_qos(prefetch_count=_PREFETCH, timeout=STEP_TIMEOUT_S)
        arguments = {"x-queue-type": self._queue_type}
        for queue, take in ((REPLIES, self._on_reply), (EVENTS, self._on_event)):
            await channel.queue_declare(queue, durable=True, arguments=arguments, timeout=STEP_TIMEOUT_S)
            await channel.basic_consume(queue, take, timeout=STEP_TIMEOUT_S)
        await channel.queue_bind(EVENTS, events.EXCHANGE, "#", timeout=STEP_TIMEOUT_S)
        await asyncio.wait({asyncio.ensure_future(connection.closing)})

    async def _on_reply(self, message: DeliveredMessage) -> None:
        body = bytes(message.body)
        job = str(message.header.properties.correlation_id)
        document = orjson.loads(body)
        fits = document.get("job_id") == job and self._bodies.fits(number_of(job), document)
        answer = Answer(digest(body), document.get("code"), fits)
        self._journal.reply(job, time.monotonic(), answer, again=bool(message.redelivered))
        await _took(message)

    async def _on_event(self, message: DeliveredMessage) -> None:
        data = orjson.loads(bytes(message.body))["data"]
        self._journal.note("events", data["job_id"], f"{time.monotonic():.6f}", message.routing_key)
        await _took(message)


async def _took(message: DeliveredMessage) -> None:
    with suppress(*LOST):
        await message.channel.basic_ack(message.delivery_tag or 0, wait=False)
