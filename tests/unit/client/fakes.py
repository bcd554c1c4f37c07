"""What a worker answers, and a worker that answers it: enough to try the client without a model."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import aio_pika
import numpy as np
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from client import Capture, receiver
from schemas.job import EXCHANGE, JSON_CONTENT_TYPE, PROBLEM_CONTENT_TYPE, ROUTING_KEY
from schemas.problems import ERROR_TABLE, PROBLEM_TYPE_PREFIX, ErrorCode, Problem, ProblemError
from schemas.result import BatchResult, LocalizationResult

NAMES = ("Torino", "Genova")
QUEUE = "heimdall.inference"
UNROUTED = "heimdall.unrouted"

Answer = Callable[[AbstractIncomingMessage], LocalizationResult | BatchResult | Problem | None]

POINT = {
    "type": "Feature",
    "id": "fix",
    "geometry": {"type": "Point", "coordinates": [7.672, 45.044]},
    "properties": {},
}
ELLIPSE = {"semi_major_m": 2410.0, "semi_minor_m": 850.0, "azimuth_deg": 31.0, "confidence": 0.95, "area_m2": 6.4e6}
FIX: dict[str, Any] = {
    "position": {"latitude": 45.044, "longitude": 7.672},
    "covariance_m2": [[1e6, 0.0], [0.0, 1e6]],
    "uncertainty": {"sigma_x": 1e3, "sigma_y": 1e3, "theta": 0.0, "confidence_interval": 0.95},
    "ellipse": ELLIPSE,
    "ellipses": [ELLIPSE],
    "confidence": None,
    "geojson": {"type": "FeatureCollection", "features": [POINT]},
    "receivers_used": [{"id": "Torino", "geolocation": {"type": "Point", "coordinates": [7.672, 45.044]}}],
    "receivers_ignored": [{"id": "Genova", "reason": "too weak"}],
    "flags": ["few_receivers"],
    "cache_hit": False,
}
JOB: dict[str, Any] = {
    "session_id": "session",
    "capture_time": "2026-01-09T15:00:02.123456789Z",
    "timestamp": "2026-01-09T15:00:03Z",
    "age_ms": 877.0,
    "model": {"name": "demo", "version": "3", "digest": "sha256:" + "0" * 64, "alias": "production"},
    "model_version": "3",
    "center_frequency_hz": 145.5e6,
    "input_digest": "blake3:" + "1" * 64,
    "inference_time_ms": 1.5,
    "timings_ms": {"queue": 0.1, "decode": 0.2, "features": 0.9, "inference": 1.5, "geometry": 0.3, "total": 3.0},
}


def result(job_id: str, **changes: Any) -> LocalizationResult:
    """A valid result."""
    return LocalizationResult.model_validate({"job_id": job_id, **JOB, **FIX, **changes})


def batch_result(job_id: str, samples: int) -> BatchResult:
    """A valid batch result whose last sample failed."""
    located = [{"sample": index, **FIX} for index in range(samples - 1)]
    failed = problem(job_id, ErrorCode.NON_FINITE_IQ).model_copy(update={"sample": samples - 1})
    total = {"total_time_ms": 5.0, "samples_per_second": 200.0}
    return BatchResult.model_validate(
        {"job_id": job_id, **JOB, **total, "predictions": [*located, failed.model_dump()]}
    )


def problem(job_id: str, code: ErrorCode, errors: list[ProblemError] | None = None) -> Problem:
    """A valid problem."""
    row = ERROR_TABLE[code]
    return Problem(
        type=PROBLEM_TYPE_PREFIX + code,
        title=row.title,
        detail="what was wrong with it",
        code=code,
        job_id=job_id,
        retriable=row.retriable,
        errors=errors,
    )


def rate_mismatch(job_id: str, expected: float) -> Problem:
    """The refusal that names the model's rate."""
    wrong = ProblemError(detail="not the model's rate", pointer="global/core:sample_rate", expected=expected)
    return problem(job_id, ErrorCode.SAMPLE_RATE_MISMATCH, [wrong])


class FakeWorker:
    """Consumes jobs and answers each with what `answer` returns; None answers nothing.

    Attributes:
        jobs: every delivery, in order.
    """

    def __init__(self, channel: AbstractChannel) -> None:
        self._channel = channel
        self.answer: Answer = lambda message: result(message.message_id or "")
        self.jobs: list[AbstractIncomingMessage] = []

    async def on_job(self, message: AbstractIncomingMessage) -> None:
        """Answer a delivery and acknowledge it."""
        self.jobs.append(message)
        outcome = self.answer(message)
        if outcome is not None:
            await self.reply(message, outcome)
        await message.ack()

    async def reply(
        self, message: AbstractIncomingMessage, outcome: LocalizationResult | BatchResult | Problem
    ) -> None:
        """Send an outcome to where a delivery wants it."""
        reply = aio_pika.Message(
            outcome.model_dump_json().encode(),
            content_type=PROBLEM_CONTENT_TYPE if isinstance(outcome, Problem) else JSON_CONTENT_TYPE,
            correlation_id=message.correlation_id,
        )
        await self._channel.default_exchange.publish(reply, message.reply_to or "", mandatory=True, timeout=5)


async def declare_topology(channel: AbstractChannel, **arguments: Any) -> aio_pika.abc.AbstractQueue:
    """The exchanges and the queue that a job passes; returns the queue."""
    await channel.declare_exchange(UNROUTED, "fanout", durable=True, timeout=10)
    exchange = await channel.declare_exchange(
        EXCHANGE, "direct", durable=True, arguments={"alternate-exchange": UNROUTED}, timeout=10
    )
    queue = await channel.declare_queue(
        QUEUE, durable=True, arguments={"x-queue-type": "quorum", **arguments}, timeout=10
    )
    await queue.bind(exchange, ROUTING_KEY, timeout=10)
    return queue


@asynccontextmanager
async def fake_worker(url: str) -> AsyncIterator[FakeWorker]:
    """A worker on a fresh topology."""
    async with await aio_pika.connect(url, timeout=10) as connection:
        channel = await connection.channel()
        queue = await declare_topology(channel)
        worker = FakeWorker(channel)
        await queue.consume(worker.on_job, timeout=10)
        yield worker


async def eventually(condition: Callable[[], bool], timeout: float = 5.0) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.01)


def capture(value: complex = 0.5 + 0.25j) -> Capture:
    """Two receivers, 1000 samples."""
    return Capture(
        samples=np.full((2, 1000), value, dtype=np.complex64),
        sample_rate=50e3,
        center_frequency=145.5e6,
        receivers=[receiver(name, latitude=45.0, longitude=8.0 + i) for i, name in enumerate(NAMES)],
        capture_time="2026-01-09T15:00:02.123456789Z",
    )


class Proxy:
    """A TCP proxy whose connections can be cut or frozen."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._writers: list[asyncio.StreamWriter] = []
        self.thawed = asyncio.Event()
        self.thawed.set()
        self.connections = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Yield the URL that leads through the proxy."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        login = f"{self._target.username}:{self._target.password}@" if self._target.username else ""
        try:
            yield urlunsplit(self._target._replace(netloc=f"{login}127.0.0.1:{port}"))
        finally:
            server.close()
            self.cut()

    def cut(self) -> None:
        """Break every connection."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        broker_reader, broker_writer = await asyncio.open_connection(self._target.hostname, self._target.port or 5672)
        self._writers += [writer, broker_writer]
        await asyncio.gather(self._pump(reader, broker_writer), self._pump(broker_reader, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self.thawed.wait()
                writer.write(data)
        except ConnectionError:
            pass
        finally:
            writer.close()
