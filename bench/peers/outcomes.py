"""What every peer does with a computed job, so that outcomes are equal: stored, replied, told; then acknowledged."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import redis
import redis.asyncio
from aio_pika import Message
from aio_pika.abc import AbstractIncomingMessage

from bench.recipe import Answer, RawJob
from schemas.events import COMPLETE
from schemas.job import JSON_CONTENT_TYPE
from schemas.result import RESULT_KEY_PREFIX

RESULT_TTL_S: Final = 3600
"""As the worker's default."""
EVENT_KEY: Final = COMPLETE
JSON: Final = JSON_CONTENT_TYPE
READY: Final = "ready"


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """What a peer's process is told; `bench.peers.peer.RunSettings` says what the fields mean."""

    amqp_url: str
    redis_url: str
    queue: str
    events_exchange: str
    model: Path
    max_batch: int
    window_ms: float
    threads: int

    @classmethod
    def from_environment(cls) -> Self:
        """Read them."""
        env = os.environ
        return cls(
            amqp_url=env["AMQP_URL"],
            redis_url=env["REDIS_URL"],
            queue=env["QUEUE"],
            events_exchange=env["EVENTS_EXCHANGE"],
            model=Path(env["MODEL"]),
            max_batch=int(env["MAX_BATCH"]),
            window_ms=float(env["WINDOW_MS"]),
            threads=int(env.get("THREADS", "1")),
        )

    @property
    def prefetch(self) -> int:
        """Jobs held at once, as many as the worker holds: one batch that fills, two under way, one being settled."""
        return 4 * self.max_batch

    @property
    def window_s(self) -> float:
        """Longest wait for a batch to fill."""
        return self.window_ms / 1000


def say_ready() -> None:
    """Tell whoever started this process that it consumes."""
    # In one piece, on a line of its own: other processes may be writing to the same log.
    os.write(sys.stdout.fileno(), f"\n{READY}\n".encode())


def job_of(message: AbstractIncomingMessage) -> RawJob:
    """The job in a delivery."""
    return RawJob(message.message_id or "", str(message.headers["sigmf"]), message.body)


async def store(client: redis.asyncio.Redis, results: Sequence[tuple[str, bytes]]) -> list[bytes]:
    """Store results, (job id, bytes) each, in one pipeline; where one is stored already, it stays.

    Returns:
        What is stored now, for each.
    """
    async with client.pipeline(transaction=False) as pipeline:
        for job_id, result in results:
            pipeline.set(RESULT_KEY_PREFIX + job_id, result, nx=True, get=True, ex=RESULT_TTL_S)
        before = await pipeline.execute()
    return [new if stored is None else stored for (_, new), stored in zip(results, before, strict=True)]


def store_now(client: redis.Redis, results: Sequence[tuple[str, bytes]]) -> list[bytes]:
    """The same as `store`, for a process without an event loop."""
    with client.pipeline(transaction=False) as pipeline:
        for job_id, result in results:
            pipeline.set(RESULT_KEY_PREFIX + job_id, result, nx=True, get=True, ex=RESULT_TTL_S)
        before = pipeline.execute()
    return [new if stored is None else stored for (_, new), stored in zip(results, before, strict=True)]


def reply_message(result: bytes, correlation_id: str | None) -> Message:
    """A reply."""
    return Message(result, content_type=JSON, correlation_id=correlation_id)


def event_message(answer: Answer) -> Message:
    """An event."""
    return Message(answer.event, content_type=JSON)
