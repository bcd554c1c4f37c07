"""The process behind `bench.traffic`: publishes jobs and hears their answers, by the barest client there is."""

import asyncio
import gc
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final
from uuid import uuid4

import aiormq
import numpy as np
from aiormq.abc import AbstractChannel, AbstractConnection, DeliveredMessage
from numpy.typing import NDArray
from pamqp.commands import Basic
from yarl import URL

from bench.latency import LONE_PAUSES_S, LONE_TIMEOUT_S, encoded, recorded
from bench.peers import PEERS, Wire
from bench.peers.peer import as_published
from bench.recipe import RawJob
from bench.requests import REPLY_TO, Address, Drained, OpenLoop
from bench.workloads import WORKLOADS

PUBLISHED_AT_ONCE: Final = 64
BODIES: Final = 64
"""Different recordings; a mark in its first sample makes each job's body one that no cache knows."""
LAST_ANSWERS_S: Final = 10.0
_SEED: Final = 5


class _Line:
    """A connection with a channel that publishes and hears its replies."""

    def __init__(self, connection: AbstractConnection, channel: AbstractChannel) -> None:
        self.connection = connection
        self.channel = channel


class Source:
    """Publishes and hears, as `Traffic` asks; each of its public methods is one request."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lines: list[_Line] = []
        self._confirmed: list[_Line] = []
        self._to = Address("", "")
        self._workload = ""
        self._sigmf = ""
        self._bodies: list[bytes] = []
        self._marked: Callable[[bytes, int], bytes] = lambda body, _: body
        self._encode: Callable[[RawJob], Wire] = as_published
        self._run = ""
        self._due: dict[str, float] = {}
        self._drained = Drained()
        self._latencies: list[float] = []
        self._news = asyncio.Event()

    async def fill(self, to: Address, count: int, bodies: int) -> None:
        """Publish jobs, confirmed."""
        if not self._confirmed:
            self._confirmed.append(await self._line(confirms=True))
        self._begin(to)
        for start in range(0, count, PUBLISHED_AT_ONCE):
            numbers = range(start, min(start + PUBLISHED_AT_ONCE, count))
            await asyncio.gather(*(self._publish(self._confirmed[0], n, n % bodies if bodies else n) for n in numbers))

    async def drain(self, count: int, timeout_s: float) -> Drained:
        """Await so many answers to what was filled in."""
        with suppress(TimeoutError):  # What is missing shows in the number of answers.
            async with asyncio.timeout(timeout_s):
                await self._until(lambda: len(self._drained.at) >= count)
        return self._drained

    async def keep(self, seconds: float) -> Drained:
        """Publish a job for each answer; all answers since the queue was filled."""
        ends, replaced, number = time.monotonic() + seconds, len(self._drained.at), 10**9
        publishing: set[asyncio.Task[None]] = set()
        while (left := ends - time.monotonic()) > 0:
            self._news.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), left)
            while replaced < len(self._drained.at):
                replaced, number = replaced + 1, number + 1
                task = asyncio.create_task(self._publish(self._confirmed[0], number, number))
                publishing.add(task)
                task.add_done_callback(publishing.discard)
        await asyncio.gather(*publishing)
        return self._drained

    async def lone(self, to: Address, count: int) -> list[float]:
        """One job at a time; their latencies, seconds, up to the first that is not answered."""
        await self._open(1)
        self._begin(to)
        rng = np.random.default_rng(_SEED)
        for number in range(count):
            await asyncio.sleep(rng.uniform(*LONE_PAUSES_S))
            await self._publish(self._lines[0], number, number)
            try:
                async with asyncio.timeout(LONE_TIMEOUT_S):
                    await self._until(lambda: not self._due)
            except TimeoutError:
                break
        return self._latencies

    async def open_loop(self, to: Address, rate: float, seconds: float, connections: int) -> OpenLoop:
        """A steady rate over many connections, and the last answers."""
        await self._open(connections)
        self._begin(to)
        due, line = schedule(rate, seconds, connections)
        gc.collect()
        gc.freeze()
        began = time.monotonic() + 0.1
        late = await self._publish_when_due(began, due, line)
        await self._last_answers()
        errors = self._drained.errors
        return OpenLoop(
            sent=len(due),
            answered=len(self._latencies) - errors,
            on_time=sum(at <= began + seconds for at in self._drained.at),
            errors=errors,
            histogram=encoded(recorded(self._latencies)),
            late_p99_ms=float(1000 * np.percentile(late, 99)),
            seconds=seconds,
        )

    async def _publish_when_due(
        self, began: float, due: NDArray[np.float64], line: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """Publish everything at its time, whatever becomes of it; how late each job was, seconds."""
        late = np.empty(len(due))
        pending: set[asyncio.Task[None]] = set()
        for number, (offset, place) in enumerate(zip(due.tolist(), line.tolist(), strict=True)):
            at = began + offset
            if (pause := at - time.monotonic()) > 0:
                await asyncio.sleep(pause)
            late[number] = max(0.0, time.monotonic() - at)
            task = asyncio.create_task(self._publish(self._lines[place], number, number, at=at))
            pending.add(task)
            task.add_done_callback(pending.discard)
        await asyncio.gather(*pending)
        return late

    async def _last_answers(self) -> None:
        with suppress(TimeoutError):  # They count as sent and not answered.
            async with asyncio.timeout(LAST_ANSWERS_S):
                await self._until(lambda: not self._due)

    def _begin(self, to: Address) -> None:
        """Forget what was before: its late answers are nobody's."""
        self._to = to
        self._run = uuid4().hex[:12]
        self._due, self._latencies, self._drained = {}, [], Drained()
        if to.workload != self._workload:
            known = WORKLOADS[to.workload]
            self._workload, self._sigmf, self._bodies = to.workload, known.sigmf(), known.make_bodies(BODIES)
            self._marked = known.marked
        self._encode = next((peer.encode for peer in PEERS if peer.name == to.peer), as_published)

    async def _open(self, connections: int) -> None:
        while len(self._lines) < connections:
            self._lines.append(await self._line(confirms=False))

    async def _line(self, *, confirms: bool) -> _Line:
        # Between two requests this process is still: no heartbeat leaves it.
        connection = await aiormq.connect(URL(self._url).update_query(heartbeat=0))
        channel = await connection.channel(publisher_confirms=confirms)
        await channel.basic_consume(REPLY_TO, self._on_reply, no_ack=True)
        return _Line(connection, channel)

    async def _publish(self, line: _Line, number: int, body: int, *, at: float | None = None) -> None:
        job_id = f"{self._run}-{number}"
        wire = self._encode(RawJob(job_id, self._sigmf, self._marked(self._bodies[body % len(self._bodies)], body)))
        properties = Basic.Properties(
            correlation_id=job_id, reply_to=REPLY_TO, delivery_mode=2, headers=wire.headers, **wire.properties
        )
        self._due[job_id] = time.monotonic() if at is None else at
        await line.channel.basic_publish(wire.body, routing_key=self._to.queue, properties=properties, mandatory=True)

    async def _on_reply(self, message: DeliveredMessage) -> None:
        now = time.monotonic()
        due = self._due.pop(message.header.properties.correlation_id or "", None)
        if due is None:
            return
        self._latencies.append(now - due)
        self._drained.at.append(now)
        self._drained.errors += b'"position"' not in message.body
        self._drained.hits += b'"cache_hit":true' in message.body
        self._news.set()

    async def _until(self, condition: Any) -> None:
        while not condition():
            self._news.clear()
            await self._news.wait()


def schedule(rate: float, seconds: float, connections: int) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """When each job is due, and over which connection: every connection has its own steady beat and phase."""
    interval = connections / rate
    phases = np.random.default_rng(_SEED).uniform(0, interval, connections)
    beats = phases[:, np.newaxis] + interval * np.arange(max(1, int(np.ceil(seconds / interval))))
    lines = np.repeat(np.arange(connections), beats.shape[1])
    order = np.argsort(beats, axis=None, kind="stable")
    flat, ordered = beats.ravel()[order], lines[order]
    return flat[flat < seconds], ordered[flat < seconds]
