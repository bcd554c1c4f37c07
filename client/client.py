"""The asynchronous client: publish a capture, await its position; or publish many, and let others take the answers."""

import asyncio
import logging
import math
import sys
import time
from collections.abc import AsyncIterable, Callable, Iterable
from types import TracebackType
from typing import Final, Self, Unpack

from client.asking import Asker
from client.capture import Capture
from client.connection import Connection
from client.errors import CaptureError, HeimdallError, LocalizationError
from client.job import MAX_BODY_BYTES, Job, make_job, resampled_id, with_claim
from client.options import DEFAULT_OUTSTANDING, DEFAULT_PATIENCE_S, DEFAULT_TIMEOUT_S, JobOptions, PublishOptions
from client.replies import Answer, model_rate, read_reply
from client.sending import Sender
from schemas.problems import ErrorCode
from schemas.result import BatchResult, LocalizationResult

logger = logging.getLogger(__name__)

_FIRST_ATTEMPT: Final = 0.6
"""Share of the timeout after which an unanswered job is published again: room for one repeat, not for a storm."""


class HeimdallClient:
    """Locates captures by way of RabbitMQ.

    One client holds one connection and serves any number of concurrent calls. A lost connection is made anew, and
    what was not answered or confirmed is published again under the same job id.

    Args:
        url: `amqp://user:password@host:port/vhost`, or `amqps://`.
        connect_timeout: seconds for connecting, repeats included.

    Example:
        >>> async with HeimdallClient("amqp://localhost") as client:  # doctest: +SKIP
        ...     result = await client.locate(capture, timeout=10)
    """

    def __init__(self, url: str, *, connect_timeout: float = DEFAULT_TIMEOUT_S) -> None:
        self._asker = Asker()
        self._connection = Connection(url, connect_timeout, self._asker.on_reply)

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            BrokerUnreachable: not within `connect_timeout`.
        """
        await self._connection.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connection.close()

    async def locate(self, capture: Capture, **options: Unpack[JobOptions]) -> LocalizationResult:
        """Locate the transmitter of a capture.

        Args:
            capture: what the receivers heard.
            **options: see `JobOptions`.

        Raises:
            CaptureError: it cannot be sent; nothing was.
            LocalizationError: the worker says why there is no position.
            LocalizationTimeout: no answer in time.
            PublishRefused: the broker did not take the job.
            BrokerUnreachable: the connection was lost and not restored.
            BadReply: the answer is not of this wire.
        """
        if capture.windows:
            raise CaptureError("the capture names several samples to locate: use locate_batch")
        answer = await self.request(capture, **options)
        assert isinstance(answer, LocalizationResult)
        return answer

    async def locate_batch(self, capture: Capture, **options: Unpack[JobOptions]) -> BatchResult:
        """Locate each of a capture's `windows` in one job; raises what `locate` raises.

        Returns:
            A prediction or a problem for each window, in order.
        """
        if not capture.windows:
            raise CaptureError("the capture names no samples to locate: give it windows, or use locate")
        answer = await self.request(capture, **options)
        assert isinstance(answer, BatchResult)
        return answer

    async def locate_many(
        self, captures: Iterable[Capture], *, concurrency: int = 32, **options: Unpack[JobOptions]
    ) -> list[LocalizationResult | HeimdallError]:
        """Locate many captures at once, a job each.

        Args:
            captures: any number.
            concurrency: jobs on their way at a time.
            **options: see `JobOptions`, of each job; `job_id` makes no sense here.

        Returns:
            For each capture, in order, its result or what `locate` would have raised.
        """
        places = asyncio.Semaphore(concurrency)

        async def one(capture: Capture) -> LocalizationResult | HeimdallError:
            async with places:
                try:
                    return await self.locate(capture, **options)
                except HeimdallError as error:
                    return error

        return await asyncio.gather(*(one(capture) for capture in captures))

    async def request(self, capture: Capture, **options: Unpack[JobOptions]) -> Answer:
        """Locate a capture, single or batch; raises what `locate` raises."""
        timeout = options.get("timeout", DEFAULT_TIMEOUT_S)
        ends = time.monotonic() + timeout
        try:
            return await self._ask(capture, timeout, options)
        except LocalizationError as error:
            rate = _wanted_rate(error, resample=options.get("resample", False))
            if rate is None:
                raise
            # The refused id keeps its stored refusal: other bytes need another.
            again: JobOptions = {**options, "job_id": resampled_id(error.problem.job_id)}
        logger.info("the model takes %.12g S/s, not %.12g: resampled and sent again", rate, capture.sample_rate)
        capture = await asyncio.to_thread(capture.resampled, rate)
        return await self._ask(capture, max(0.0, ends - time.monotonic()), again)

    async def publish(self, capture: Capture, *, job_id: str | None = None, **options: Unpack[PublishOptions]) -> str:
        """Publish a capture and return when the broker has it: its outcome is stored, and told as an event.

        A full queue is waited for, and a lost connection is made anew, for `patience_s`.

        Args:
            capture: what the receivers heard; at the model's sample rate, as nobody hears a refusal here.
            job_id: 1-128 of `[A-Za-z0-9._-]`; default: a new one.
            **options: see `PublishOptions`.

        Returns:
            The job id, to look the outcome up with.

        Raises:
            CaptureError: it cannot be sent; nothing was.
            PublishRefused: the broker does not take the job.
            BrokerUnreachable: no connection.
            HeimdallError: the store for large bodies does not take this one.
        """
        job = await self.prepared(capture, job_id, options)
        await self.sender(patience_s=options.get("patience_s", DEFAULT_PATIENCE_S)).send(job)
        return job.job_id

    async def publish_many(
        self,
        captures: Iterable[Capture] | AsyncIterable[Capture],
        *,
        outstanding: int = DEFAULT_OUTSTANDING,
        confirmed: Callable[[str], None] | None = None,
        **options: Unpack[PublishOptions],
    ) -> list[str]:
        """Publish many captures, a job each, with several confirms awaited at a time.

        Args:
            captures: any number, such as `capture.cut(window_s=0.2)`; taken one by one as the broker confirms.
            outstanding: jobs that may wait for their confirms at once.
            confirmed: called with each job id when the broker has the job, in order of the confirms.
            **options: see `PublishOptions`.

        Returns:
            The job ids, in the captures' order.

        Raises:
            See `publish`; what was confirmed before stays published.
        """
        sender = self.sender(outstanding=outstanding, patience_s=options.get("patience_s", DEFAULT_PATIENCE_S))
        tell = confirmed or (lambda _: None)
        job_ids = []
        try:
            async for capture in _each(captures):
                job = await self.prepared(capture, None, options)
                await sender.submit(job, lambda job_id=job.job_id: tell(job_id))  # type: ignore[misc]
                job_ids.append(job.job_id)
            await sender.drain()
        finally:
            await sender.close()
        return job_ids

    def sender(self, *, outstanding: int = DEFAULT_OUTSTANDING, patience_s: float = DEFAULT_PATIENCE_S) -> Sender:
        """A sender over this client's connection."""
        return Sender(self._connection, outstanding=outstanding, patience_s=patience_s)

    async def _ask(self, capture: Capture, timeout: float, options: JobOptions) -> Answer:
        ends = options.get("expire", True) and math.isfinite(timeout)
        job = make_job(
            capture,
            user_id=self._connection.user,
            job_id=options.get("job_id"),
            session_id=options.get("session_id"),
            confidence=options.get("confidence"),
            deadline_ms=int((time.time() + timeout) * 1000) if ends else None,
            cache_enabled=options.get("cache_enabled", True),
            continue_on_error=options.get("continue_on_error", True),
        )
        attempt = options.get("attempt_timeout") or timeout * _FIRST_ATTEMPT
        reply = await self._asker.ask(self._connection, job, timeout=timeout, attempt_timeout=attempt)
        return read_reply(job.job_id, reply.content_type, reply.body, batch=bool(capture.windows))

    async def prepared(self, capture: Capture, job_id: str | None, options: PublishOptions) -> Job:
        """A job without a reply; its body is in the store already where it is too large for a message."""
        store = options.get("store")
        job = make_job(
            capture,
            user_id=self._connection.user,
            job_id=job_id,
            session_id=options.get("session_id"),
            confidence=options.get("confidence"),
            deadline_ms=options.get("deadline_ms"),
            cache_enabled=options.get("cache_enabled", True),
            continue_on_error=options.get("continue_on_error", True),
            reply_to=None,
            max_body_bytes=MAX_BODY_BYTES if store is None else sys.maxsize,
        )
        if store is None or len(job.body) <= store.above_bytes:
            return job
        return with_claim(job, await store.deposit(job.body))


async def _each(captures: Iterable[Capture] | AsyncIterable[Capture]) -> AsyncIterable[Capture]:
    if isinstance(captures, AsyncIterable):
        async for capture in captures:
            yield capture
        return
    for capture in captures:
        yield capture


def _wanted_rate(error: LocalizationError, *, resample: bool) -> float | None:
    if not resample or error.code is not ErrorCode.SAMPLE_RATE_MISMATCH:
        return None
    return model_rate(error.problem)
