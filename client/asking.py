"""Asking: a job published, and published again under the same id, until its reply has come."""

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Any, Final

from aio_pika.abc import AbstractIncomingMessage
from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from client.connection import Connection
from client.errors import LocalizationTimeout, PublishRefused
from client.job import Job
from client.link import Link, LinkLost

logger = logging.getLogger(__name__)

_FIRST_WAIT_S: Final = 0.05
_LONGEST_WAIT_S: Final = 2.0
_LEAST_CONFIRM_S: Final = 5.0
"""A confirm that is waited for no longer ends the link for all that use it."""


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


class Asker:
    """Matches replies with the jobs that wait for them."""

    def __init__(self) -> None:
        self._waiting: dict[str, _Call] = {}

    def on_reply(self, message: AbstractIncomingMessage) -> None:
        """Give a reply to whoever waits for it."""
        call = self._waiting.get(message.correlation_id or "")
        if call is None:
            logger.debug("a reply came late: correlation id %s", message.correlation_id)
        elif not call.reply.done():
            call.reply.set_result(message)

    async def ask(
        self, connection: Connection, job: Job, *, timeout: float, attempt_timeout: float
    ) -> AbstractIncomingMessage:
        """Publish a job until it is answered.

        Args:
            connection: whose replies come here.
            job: with the connection's reply address.
            timeout: seconds for all attempts together.
            attempt_timeout: seconds after which the job is published again.

        Raises:
            LocalizationTimeout: no answer in time.
            PublishRefused: the broker did not take the job.
            BrokerUnreachable: the connection was lost and not restored.
        """
        call = _Call(job, attempt_timeout)
        self._waiting[job.correlation_id] = call
        try:
            async with asyncio.timeout(timeout):
                return await self._until_answered(connection, call)
        except TimeoutError:
            story = f"waited {timeout:.3g} s, published {call.publishes} times; {call.trouble}"
            raise LocalizationTimeout(job.job_id, story) from None
        finally:
            del self._waiting[job.correlation_id]

    async def _until_answered(self, connection: Connection, call: _Call) -> AbstractIncomingMessage:
        retrying = AsyncRetrying(
            retry=retry_if_exception_type((LinkLost, _NoReplyYet)),
            wait=wait_random_exponential(_FIRST_WAIT_S, _LONGEST_WAIT_S),
        )
        return await retrying(self._attempt, connection, call)

    async def _attempt(self, connection: Connection, call: _Call) -> AbstractIncomingMessage:
        if call.reply.done():  # It came between two attempts.
            return call.reply.result()
        link = await connection.linked()
        await _publish(link, call)
        either: set[asyncio.Future[Any]] = {call.reply, link.lost}
        await asyncio.wait(either, timeout=call.attempt_timeout, return_when=asyncio.FIRST_COMPLETED)
        if call.reply.done():
            return call.reply.result()
        if link.lost.done():
            call.trouble = f"the connection was lost: {link.lost.result()}"
            raise LinkLost(link.lost.result())
        raise _NoReplyYet


async def _publish(link: Link, call: _Call) -> None:
    call.publishes += 1
    try:
        await link.publish(call.job, max(call.attempt_timeout, _LEAST_CONFIRM_S))
    except PublishRefused as error:
        # Only a first refusal says that the job is nowhere; a repeat's says nothing of the publish before it.
        if call.publishes == 1:
            raise
        call.trouble = str(error)
    except LinkLost as error:
        call.trouble = f"the connection was lost: {error}"
        raise
