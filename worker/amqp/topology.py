"""Names of exchanges and queues, and their declaration. The same stands in deploy/rabbitmq/definitions.json."""

from dataclasses import dataclass
from typing import Any, Final

from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel, AbstractQueue

from schemas import control, events, job

UNROUTED: Final = "heimdall.unrouted"
DEAD: Final = "heimdall.dead"
DEAD_ROUTING_KEY: Final = "dead"
DELIVERY_LIMIT: Final = 100
"""A backstop: the worker itself dead-letters what crashes it, long before."""

READINGS: Final = 1_000_000
"""Delivery limit of the queues that people read: looking at a letter and putting it back must not use it up."""

_EXCHANGES: Final[dict[str, tuple[ExchangeType, dict[str, Any]]]] = {
    job.EXCHANGE: (ExchangeType.DIRECT, {"alternate-exchange": UNROUTED}),
    UNROUTED: (ExchangeType.FANOUT, {}),
    DEAD: (ExchangeType.DIRECT, {}),
    events.EXCHANGE: (ExchangeType.TOPIC, {}),
    control.EXCHANGE: (ExchangeType.TOPIC, {}),
}


@dataclass(frozen=True, slots=True)
class Topology:
    """What one deployment uses.

    Attributes:
        queue: of the jobs.
        routing_key: that leads to it.
        queue_max_bytes: at which it refuses publishers; well below the broker's memory alarm.
        dead_max_bytes: that the dead-letter queue keeps.
        declare: declare everything; False = it exists, and only its presence is checked.
    """

    queue: str
    routing_key: str
    queue_max_bytes: int
    dead_max_bytes: int
    declare: bool

    async def establish(self, channel: AbstractChannel, timeout: float) -> AbstractQueue:
        """Declare, or check, exchanges and queues.

        Args:
            channel: to declare on.
            timeout: seconds for each step; the broker may be silent.

        Returns:
            The queue of the jobs.

        Raises:
            aiormq.exceptions.AMQPError: something is missing, forbidden, or declared otherwise before.
        """
        if not self.declare:
            for name in _EXCHANGES:
                await channel.declare_exchange(name, passive=True, timeout=timeout)
            for name in (DEAD, UNROUTED):
                await channel.declare_queue(name, passive=True, timeout=timeout)
            return await channel.declare_queue(self.queue, passive=True, timeout=timeout)
        for name, (kind, arguments) in _EXCHANGES.items():
            await channel.declare_exchange(name, kind, durable=True, arguments=arguments, timeout=timeout)
        dead = await self._queue(channel, DEAD, _bounded(self.dead_max_bytes), timeout)
        await dead.bind(DEAD, DEAD_ROUTING_KEY, timeout=timeout)
        unrouted = await self._queue(channel, UNROUTED, _bounded(self.dead_max_bytes), timeout)
        await unrouted.bind(UNROUTED, timeout=timeout)
        jobs = await self._queue(channel, self.queue, self._job_arguments(), timeout)
        await jobs.bind(job.EXCHANGE, self.routing_key, timeout=timeout)
        return jobs

    def _job_arguments(self) -> dict[str, Any]:
        return {
            "x-max-length-bytes": self.queue_max_bytes,
            "x-overflow": "reject-publish",
            "x-delivery-limit": DELIVERY_LIMIT,
            "x-dead-letter-exchange": DEAD,
            "x-dead-letter-routing-key": DEAD_ROUTING_KEY,
            "x-dead-letter-strategy": "at-least-once",
        }

    @staticmethod
    async def _queue(channel: AbstractChannel, name: str, arguments: dict[str, Any], timeout: float) -> AbstractQueue:
        return await channel.declare_queue(
            name, durable=True, arguments={"x-queue-type": "quorum", **arguments}, timeout=timeout
        )


def _bounded(max_bytes: int) -> dict[str, Any]:
    return {"x-max-length-bytes": max_bytes, "x-overflow": "drop-head", "x-delivery-limit": READINGS}
