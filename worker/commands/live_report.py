"""Figures of a promotion in a fleet that works, seen from outside: from `heimdall.events`."""

import asyncio
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import orjson
from aio_pika.abc import AbstractIncomingMessage

from schemas import events
from worker.commands.fleet import connect
from worker.commands.swap_figures import SwapFigures, p99_ratio

BASELINE_S: Final = 5.0
"""How long latencies are taken before the promotion."""
AFTERMATH_S: Final = 1.0
"""How long after the fleet agrees a job counts as one during the change."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One event.

    Attributes:
        at: `time.monotonic()`.
        versions: every version that it names; none for an error.
        total_ms: of the worker's work on it; None for an error.
    """

    at: float
    versions: frozenset[str]
    total_ms: float | None


@dataclass(frozen=True, slots=True)
class LiveReport:
    """What events said before, and since, the promotion began."""

    seen: list[Seen]

    async def baseline(self) -> float:
        """Take latencies for a while; the time at which the promotion may begin."""
        await asyncio.sleep(BASELINE_S)
        return time.monotonic()

    async def figures(self, began: float, known: Collection[str]) -> SwapFigures:
        """Figures of the promotion, after the last jobs have come in.

        Args:
            began: when.
            known: versions that may answer: those before and the one promoted.
        """
        await asyncio.sleep(AFTERMATH_S)
        during = [event for event in self.seen if event.at >= began]
        return SwapFigures(
            swaps=1,
            jobs=len(during),
            lost=None,
            refused=None,
            errors=sum(event.total_ms is None for event in during),
            mixed=sum(len(event.versions) > 1 or not event.versions <= set(known) for event in during),
            p99_ratio=p99_ratio(_latencies(during), _latencies([e for e in self.seen if e.at < began])),
            rss_growth=None,
        )


@asynccontextmanager
async def follow_events(url: str) -> AsyncIterator[LiveReport]:
    """Follow the live results.

    Raises:
        BrokerUnreachable: the broker cannot be reached.
    """
    report = LiveReport([])

    async def on_event(message: AbstractIncomingMessage) -> None:
        report.seen.append(read_event(message.routing_key or "", message.body))

    connection = await connect(url)
    async with connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(events.EXCHANGE, "localization.*")
        await queue.consume(on_event, no_ack=True)
        yield report


def read_event(key: str, body: bytes) -> Seen:
    """What an event says of the version and the time it took."""
    data: dict[str, Any] = orjson.loads(body)["data"]
    if key != events.COMPLETE:
        return Seen(time.monotonic(), frozenset(), None)
    versions = {data["model_version"], data["model"]["version"]}
    return Seen(time.monotonic(), frozenset(versions), float(data["timings_ms"]["total"]))


def _latencies(seen: Collection[Seen]) -> list[float]:
    return [event.total_ms for event in seen if event.total_ms is not None]
