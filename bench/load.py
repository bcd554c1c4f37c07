"""Continuous load in a process of its own: jobs at a steady rate, whatever becomes of those before (an open loop)."""

import asyncio
import gc
import json
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Final
from uuid import uuid4

import aio_pika
from aio_pika.abc import AbstractExchange, AbstractIncomingMessage
from aio_pika.exceptions import AMQPError

from client.job import REPLY_TO
from schemas.job import EXCHANGE, ROUTING_KEY

LAST_ANSWERS_S: Final = 30.0
"""How long after the last job its answer may take before it counts as lost."""


@dataclass(frozen=True, slots=True)
class Body:
    """A job to publish again and again.

    Attributes:
        sigmf: its metadata, as JSON.
    """

    sigmf: str
    data: bytes


@dataclass(slots=True)
class Sent:
    """A published job and its answers.

    Attributes:
        body: index of its body.
        at: `time.monotonic()` of its publishing; one clock for all processes of a machine.
        refused: whether the broker did not take it.
        answered: when the first answer came.
        answers: every answer, read.
    """

    body: int
    at: float
    refused: bool = False
    answered: float | None = None
    answers: list[dict[str, Any]] = field(default_factory=list)

    @property
    def latency_s(self) -> float | None:
        """From publish to answer."""
        return None if self.answered is None else self.answered - self.at


class Load:
    """The load that runs. Made by `running`."""

    def __init__(self, pipe: "Connection[str, list[Sent]]") -> None:
        self._pipe = pipe

    def stop(self) -> list[Sent]:
        """Publish no more, await the last answers, and return all jobs in the order of their publishing.

        Raises:
            RuntimeError: the load's process has ended; what it said stands above.
        """
        try:
            self._pipe.send("stop")
            return self._pipe.recv()
        except (EOFError, OSError) as error:
            raise RuntimeError("the process that makes the load has ended before it was told to") from error


@contextmanager
def running(url: str, bodies: Sequence[Body], rate: float) -> Iterator[Load]:
    """Put load on a queue for as long as the block runs.

    Args:
        url: of the broker.
        bodies: published in turn.
        rate: jobs per second.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_main, args=(url, list(bodies), rate, theirs), daemon=True)
    process.start()
    theirs.close()  # Or the end of the process would not be the end of the pipe.
    try:
        yield Load(ours)
    finally:
        process.terminate()
        process.join()


def _main(url: str, bodies: list[Body], rate: float, pipe: "Connection[list[Sent], str]") -> None:
    pipe.send(asyncio.run(_Generator(bodies, pipe).run(url, rate)))


class _Generator:
    def __init__(self, bodies: list[Body], pipe: "Connection[list[Sent], str]") -> None:
        self._bodies = bodies
        self._pipe = pipe
        self._jobs: dict[str, Sent] = {}
        self._publishing: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()

    async def run(self, url: str, rate: float) -> list[Sent]:
        """Publish until told to stop; then wait for the last answers."""
        gc.freeze()
        async with await aio_pika.connect(url) as connection:
            channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
            replies = await channel.get_queue(REPLY_TO, ensure=False)
            await replies.consume(self._on_reply, no_ack=True)
            exchange = await channel.get_exchange(EXCHANGE, ensure=False)
            await self._publish_steadily(exchange, 1.0 / rate)
            await asyncio.gather(*self._publishing)
            await self._last_answers()
        return list(self._jobs.values())

    async def _publish_steadily(self, exchange: AbstractExchange, interval: float) -> None:
        due = time.monotonic()
        while not self._pipe.poll():
            task = asyncio.create_task(self._publish(exchange, len(self._jobs) % len(self._bodies)))
            self._publishing.add(task)
            task.add_done_callback(self._publishing.discard)
            due += interval
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _publish(self, exchange: AbstractExchange, index: int) -> None:
        body, job_id = self._bodies[index], uuid4().hex
        job = self._jobs[job_id] = Sent(index, time.monotonic())
        message = aio_pika.Message(
            body.data,
            message_id=job_id,
            correlation_id=job_id,
            reply_to=REPLY_TO,
            content_type="application/octet-stream",
            headers={"sigmf": body.sigmf, "session_id": f"swaps-{index}"},
        )
        try:
            await exchange.publish(message, ROUTING_KEY, mandatory=True, timeout=LAST_ANSWERS_S)
        except (AMQPError, OSError, RuntimeError, TimeoutError):
            job.refused = True

    async def _on_reply(self, message: AbstractIncomingMessage) -> None:
        now = time.monotonic()
        job = self._jobs[message.correlation_id or ""]
        job.answered = job.answered or now
        answer = json.loads(message.body)
        self._news.set()
        job.answers.append({key: answer.get(key) for key in ("code", "detail", "position", "model", "model_version")})

    async def _last_answers(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_ANSWERS_S):
                while any(not job.answers and not job.refused for job in self._jobs.values()):
                    self._news.clear()
                    await self._news.wait()
