"""Keeps a session with the broker open: opens one, lets it consume, and opens the next when it is lost."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from worker.amqp.delivery import Delivery, read_delivery
from worker.amqp.flow import Flow
from worker.amqp.session import LOST, AmqpSession
from worker.errors import Unavailable

log = structlog.get_logger(__name__)

MAX_BACKOFF_S: Final = 10.0
_SETTLED_AFTER_S: Final = 5.0


class Broker:
    """The worker's side of RabbitMQ.

    Args:
        open_session: opens one session; raises `Unavailable` where it cannot.
        flow: whether jobs are taken.
        take: gets each delivery; must not block or raise.
        max_body_bytes: over which a body is refused.
        on_open: called with each new session, before it consumes.
    """

    def __init__(
        self,
        open_session: Callable[[], Awaitable[AmqpSession]],
        flow: Flow,
        take: Callable[[Delivery], None],
        *,
        max_body_bytes: int,
        on_open: Callable[[AmqpSession], Awaitable[None]],
    ) -> None:
        self._open_session = open_session
        self._flow = flow
        self._take = take
        self._max_body_bytes = max_body_bytes
        self._on_open = on_open
        self.session: AmqpSession | None = None
        """The open session, or None between two."""

    @property
    def connected(self) -> bool:
        """Whether a session is open."""
        return self.session is not None and not self.session.lost.is_set()

    @property
    def held(self) -> int:
        """Deliveries that are not settled."""
        return self.session.held if self.session else 0

    async def run(self) -> None:
        """Keep a session open until cancelled; then close it."""
        loop = asyncio.get_running_loop()
        while True:
            session: AmqpSession = await self._retrying()(self._open_session)
            opened = loop.time()
            try:
                await self._serve(session)
            finally:
                self.session = None
                await session.close()
            log.warning("broker.lost", reason=session.reason)
            if loop.time() - opened < _SETTLED_AFTER_S:
                # A session that fails at once would otherwise be opened again at full speed.
                await asyncio.sleep(random.uniform(0.5, 2.0))  # noqa: S311 - jitter

    async def _serve(self, session: AmqpSession) -> None:
        consuming = asyncio.ensure_future(self._consume(session))
        lost = asyncio.ensure_future(session.lost.wait())
        try:
            await asyncio.wait({consuming, lost}, return_when=asyncio.FIRST_COMPLETED)
            if consuming.done() and not consuming.cancelled() and (error := consuming.exception()) is not None:
                if not isinstance(error, LOST):
                    raise error
                log.warning("consumer.failed", error=repr(error))
                session.lose(f"consuming failed: {error!r}")
        finally:
            session.lose("the worker stops")
            for task in (consuming, lost):
                task.cancel()
            await asyncio.gather(consuming, lost, return_exceptions=True)

    async def _consume(self, session: AmqpSession) -> None:
        await self._on_open(session)
        self.session = session
        log.info("broker.connected")
        await session.consume(
            self._flow, lambda message: self._take(read_delivery(session, message, self._max_body_bytes))
        )

    def _retrying(self) -> AsyncRetrying:
        return AsyncRetrying(
            wait=wait_random_exponential(multiplier=0.5, max=MAX_BACKOFF_S),
            retry=retry_if_exception_type(Unavailable),
            before_sleep=_log_failure,
        )


def _log_failure(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.warning("broker.unavailable", error=str(error), attempt=state.attempt_number)
