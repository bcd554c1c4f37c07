"""The asynchronous client: publish a capture, await its position."""

import asyncio
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self, Unpack

from aio_pika.abc import AbstractIncomingMessage
from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from client.capture import Capture
from client.errors import CaptureError, HeimdallError, LocalizationError, LocalizationTimeout, PublishRefused
from client.job import Job, make_job, resampled_id
from client.link import Link, LinkLost, check_url, open_link, user_of
from client.options import DEFAULT_TIMEOUT_S, JobOptions
from client.replies import Answer, model_rate, read_reply
from schemas.problems import ErrorCode
from schemas.result import BatchResult, LocalizationResult

logger = logging.getLogger(__name__)

_FIRST_ATTEMPT: Final = 0.6
"""Share of the timeout after which an unanswered job is published again: room for one repeat, not for a storm."""
_FIRST_WAIT_S: Final = 0.05
_LONGEST_WAIT_S: Final = 2.0


class _NoReplyYet(Exception):
    """The attempt's time is over."""


@dataclass(slots=True)
class _Call:
    """One job on its way."""

    job: Job
    attempt_timeout: float
    reply: asyncio.Future[AbstractIncomingMessage] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    publishes: int = 0
    trouble: str = "it is waiting in the queue, or no worker is running"


class HeimdallClient:
    """Locates captures by way of RabbitMQ.

    One client holds one connection and serves any number of concurrent calls. A lost connection is made anew, and
    what was not answered is published again under the same job id.

    Args:
        url: `amqp://user:password@host:port/vhost`, or `amqps://`.
        connect_timeout: seconds for connecting, repeats included.

    Example:
        >>> async with HeimdallClient("amqp://localhost") as client:  # doctest: +SKIP
        ...     result = await client.locate(capture, timeout=10)
    """

    def __init__(self, url: str, *, connect_timeout: float = DEFAULT_TIMEOUT_S) -> None:
        self._url = check_url(url)
        self._connect_timeout = connect_timeout
        self._link: Link | None = None
        self._linking = asyncio.Lock()
        self._open = False
        self._waiting: dict[str, _Call] = {}

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            BrokerUnreachable: not within `connect_timeout`.
        """
        self._open = True
        await self._linked()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        if self._link is not None:
            await self._link.close()

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

    async def _ask(self, capture: Capture, timeout: float, options: JobOptions) -> Answer:
        job = self._job(capture, timeout, options)
        call = _Call(job, options.get("attempt_timeout") or timeout * _FIRST_ATTEMPT)
        self._waiting[job.correlation_id] = call
        try:
            async with asyncio.timeout(timeout):
                reply = await self._until_answered(call)
        except TimeoutError:
            story = f"waited {timeout:.3g} s, published {call.publishes} times; {call.trouble}"
            raise LocalizationTimeout(job.job_id, story) from None
        finally:
            del self._waiting[job.correlation_id]
        return read_reply(job.job_id, reply.content_type, reply.body, batch=bool(capture.windows))

    def _job(self, capture: Capture, timeout: float, options: JobOptions) -> Job:
        return make_job(
            capture,
            user_id=user_of(self._url),
            job_id=options.get("job_id"),
            session_id=options.get("session_id"),
            confidence=options.get("confidence"),
            deadline_ms=int((time.time() + timeout) * 1000) if options.get("expire", True) else None,
            cache_enabled=options.get("cache_enabled", True),
            continue_on_error=options.get("continue_on_error", True),
        )

    async def _until_answered(self, call: _Call) -> AbstractIncomingMessage:
        retrying = AsyncRetrying(
            retry=retry_if_exception_type((LinkLost, _NoReplyYet)),
            wait=wait_random_exponential(_FIRST_WAIT_S, _LONGEST_WAIT_S),
        )
        return await retrying(self._attempt, call)

    async def _attempt(self, call: _Call) -> AbstractIncomingMessage:
        if call.reply.done():  # It came between two attempts.
            return call.reply.result()
        link = await self._linked()
        await _publish(link, call)
        either: set[asyncio.Future[Any]] = {call.reply, link.lost}
        await asyncio.wait(either, timeout=call.attempt_timeout, return_when=asyncio.FIRST_COMPLETED)
        if call.reply.done():
            return call.reply.result()
        if link.lost.done():
            call.trouble = f"the connection was lost: {link.lost.result()}"
            raise LinkLost(link.lost.result())
        raise _NoReplyYet

    async def _linked(self) -> Link:
        async with self._linking:
            if not self._open:
                raise HeimdallError("the client is closed: use it inside `async with HeimdallClient(url) as client`")
            if self._link is not None and self._link.lost.done():
                await self._link.close()
                self._link = None
            if self._link is None:
                self._link = await open_link(self._url, self._on_reply, timeout=self._connect_timeout)
            return self._link

    def _on_reply(self, message: AbstractIncomingMessage) -> None:
        call = self._waiting.get(message.correlation_id or "")
        if call is None:
            logger.debug("a reply came late: correlation id %s", message.correlation_id)
        elif not call.reply.done():
            call.reply.set_result(message)


async def _publish(link: Link, call: _Call) -> None:
    call.publishes += 1
    try:
        await link.publish(call.job, call.attempt_timeout)
    except PublishRefused as error:
        # Only a first refusal says that the job is nowhere; a repeat's says nothing of the publish before it.
        if call.publishes == 1:
            raise
        call.trouble = str(error)
    except LinkLost as error:
        call.trouble = f"the connection was lost: {error}"
        raise


def _wanted_rate(error: LocalizationError, *, resample: bool) -> float | None:
    if not resample or error.code is not ErrorCode.SAMPLE_RATE_MISMATCH:
        return None
    return model_rate(error.problem)
