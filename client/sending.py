"""Sending: jobs that nobody here waits for, until the broker has confirmed each of them.

A confirmed job is in the queue and will end with an outcome. Until then the client holds it: a full queue is waited
for, a lost connection is made anew, and the job is published again under its id, which costs no second inference.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from tenacity import AsyncRetrying, RetryCallState, RetryError, retry_if_exception, stop_after_delay
from tenacity import wait_random_exponential as backoff

from client.connection import Connection
from client.errors import BrokerUnreachable, PublishRefused
from client.job import Job
from client.link import LinkLost

logger = logging.getLogger(__name__)

CONFIRM_TIMEOUT_S: Final = 30.0
_FIRST_WAIT_S: Final = 0.1
_LONGEST_WAIT_S: Final = 5.0
_SAID_EVERY_S: Final = 10.0


class Sender:
    """Publishes jobs with a bounded number of confirms outstanding.

    Args:
        connection: to the broker.
        outstanding: jobs that may wait for their confirms at once.
        patience_s: how long the broker may refuse a job, or be away, before it is given up.
    """

    def __init__(self, connection: Connection, *, outstanding: int, patience_s: float) -> None:
        self._connection = connection
        self._patience_s = patience_s
        self._places = asyncio.Semaphore(outstanding)
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None
        self._said_at = -_SAID_EVERY_S

    @property
    def outstanding(self) -> int:
        """Jobs that wait for their confirms."""
        return len(self._tasks)

    async def submit(self, job: Job, confirmed: Callable[[], None]) -> None:
        """Begin to publish a job; waits while the bound is reached.

        Args:
            job: to publish.
            confirmed: called when the broker has it.

        Raises:
            PublishRefused, BrokerUnreachable: a job submitted before could not be published.
        """
        await self._places.acquire()
        if self._failure is not None:
            self._places.release()
            raise self._failure
        task = asyncio.create_task(self._run(job, confirmed))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def drain(self) -> None:
        """Wait until all submitted jobs are confirmed; raises what `submit` raises."""
        while self._tasks and self._failure is None:
            await asyncio.wait(set(self._tasks), return_when=asyncio.FIRST_COMPLETED)
        if self._failure is not None:
            raise self._failure

    async def close(self) -> None:
        """Give up what is not confirmed."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def connect(self) -> None:
        """Connect for the first time, which is tried as patiently as sending is.

        Raises:
            BrokerUnreachable: no connection for longer than the patience, or the login was refused.
        """
        try:
            await self._retrying()(self._connection.open)
        except RetryError as error:
            last = error.last_attempt.exception()
            raise BrokerUnreachable(f"{last}; the patience of {self._patience_s:g} s is over") from last

    async def send(self, job: Job) -> None:
        """Publish one job until it is confirmed.

        Raises:
            PublishRefused: the broker refuses it for good, or for longer than the patience.
            BrokerUnreachable: no connection for longer than the patience, or the login was refused.
        """
        try:
            await self._retrying()(self._attempt, job)
        except RetryError as error:
            last = error.last_attempt.exception()
            if isinstance(last, PublishRefused | BrokerUnreachable):
                raise last from None
            raise BrokerUnreachable(f"no confirm of job {job.job_id} in {self._patience_s:g} s: {last}") from last

    def _retrying(self) -> AsyncRetrying:
        return AsyncRetrying(
            retry=retry_if_exception(_may_pass),
            stop=stop_after_delay(self._patience_s),
            wait=backoff(_FIRST_WAIT_S, _LONGEST_WAIT_S),
            before_sleep=self._say,
        )

    async def _attempt(self, job: Job) -> None:
        link = await self._connection.linked()
        await link.publish(job, min(CONFIRM_TIMEOUT_S, self._patience_s))

    async def _run(self, job: Job, confirmed: Callable[[], None]) -> None:
        try:
            await self.send(job)
            confirmed()
        finally:
            self._places.release()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._failure = self._failure or task.exception()

    def _say(self, state: RetryCallState) -> None:
        if time.monotonic() - self._said_at < _SAID_EVERY_S:  # Each of the outstanding jobs would say the same.
            return
        self._said_at = time.monotonic()
        logger.info("waiting for the broker: %s", state.outcome.exception() if state.outcome else "no answer")


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, PublishRefused):
        return error.retriable
    return isinstance(error, LinkLost) or (isinstance(error, BrokerUnreachable) and not error.final)
