"""What operators may do with a running worker, and what it says of itself: the actions behind control and health."""

import asyncio
import random
from typing import Final

from worker.amqp.broker import Broker
from worker.amqp.delivery import Delivery
from worker.amqp.flow import Flow, Reason
from worker.claims import Claims
from worker.serving.batcher import MicroBatcher
from worker.serving.swap import Swapper

_OBSTACLES: Final[dict[Reason, str]] = {
    "model": "no valid model",
    "store": "Redis does not take writes",
    "draining": "draining",
    "paused": "paused by an operator",
    "fleet_paused": "the fleet is paused by an operator",
}


class Operations:
    """Actions on the parts of a worker.

    Args:
        flow: whether jobs are taken.
        swapper: changes what serves.
        broker: the connection.
        claims: what is held and has no body yet.
        batcher: what is held.
        reload_jitter_s: longest random delay before a reload.
    """

    def __init__(
        self,
        flow: Flow,
        swapper: Swapper,
        broker: Broker,
        claims: Claims[Delivery],
        batcher: MicroBatcher[Delivery],
        reload_jitter_s: float,
    ) -> None:
        self._flow = flow
        self._swapper = swapper
        self._broker = broker
        self._claims = claims
        self._batcher = batcher
        self._reload_jitter_s = reload_jitter_s
        self.started = False
        """Whether the worker was ever ready."""

    @property
    def consuming(self) -> bool:
        """Whether the broker sends jobs."""
        return self._broker.session is not None and not self._broker.session.idle.is_set()

    def obstacles(self) -> list[str]:
        """Why no jobs are taken; empty = they are."""
        found = [_OBSTACLES[reason] for reason in self._flow.reasons]
        if not self._broker.connected:
            found.append("no connection to RabbitMQ")
        elif not found and not self.consuming:
            found.append("about to consume")
        self.started = self.started or not found
        return found

    def state(self) -> str:
        """Serving, or why not."""
        return "; ".join(self.obstacles()) or "serving"

    async def reload(self, expect: str | None) -> str:
        """Serve what the registry says; see `Swapper.sync`."""
        await asyncio.sleep(random.uniform(0.0, self._reload_jitter_s))  # noqa: S311 - spreads a fleet
        return await self._swapper.sync(expect)

    async def pause(self, *, fleet: bool) -> str:
        """Take no jobs; for the fleet, if its tag in the registry says so."""
        if fleet:
            await self._swapper.sync()
        else:
            self._flow.stop("paused")
        return self.state()

    async def resume(self, *, fleet: bool) -> str:
        """Take jobs again; for the fleet, unless its tag in the registry forbids."""
        self._flow.clear("paused")
        if fleet:
            await self._swapper.sync()
        return self.state()

    async def drain(self) -> str:
        """Take no jobs, and return when nothing is held."""
        self._flow.stop("paused")
        await self.until_nothing_is_held()
        return "nothing is held"

    async def until_nothing_is_held(self) -> None:
        """Wait until the consumer has stopped and every delivery is settled."""
        if self._broker.session is not None:
            await self._broker.session.idle.wait()
        await self._claims.drain()  # What they hand on is in the batcher when this returns.
        await self._batcher.drain()
