"""Following: live results from the event exchange, as they come.

Each follower has a queue of its own, which the broker drops with the connection. What is told while the connection is
away is not heard; every outcome can still be looked up.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final

from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import AMQPError, ChannelNotFoundEntity
from pydantic import ValidationError

from client.errors import BrokerUnreachable
from client.link import check_url, connect, disconnect
from client.options import DEFAULT_PATIENCE_S, DEFAULT_TIMEOUT_S
from schemas.events import COMPLETE, EXCHANGE, FAILED, CompleteEvent, FailedEvent

logger = logging.getLogger(__name__)

Event = CompleteEvent | FailedEvent

_HELD: Final = 200
"""Events that the broker sends ahead of their reader."""
_QUEUED: Final = 100_000
"""Events that wait for a slow reader; then the oldest go."""
_STEP_S: Final = 10.0


class _Feed:
    """A queue of events over one connection, until that breaks."""

    def __init__(self, connection: AbstractConnection, channel: AbstractChannel) -> None:
        # The connection holds its channels weakly.
        self.connection, self._channel = connection, channel
        self.arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        channel.close_callbacks.add(self._on_close)

    async def take(self) -> AbstractIncomingMessage | None:
        """The next event, acknowledged; None when the connection is lost."""
        arriving = asyncio.ensure_future(self.arrived.get())
        either: set[asyncio.Future[Any]] = {arriving, self.lost}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not arriving.done():
                arriving.cancel()
        if not arriving.done():
            return None
        try:
            await arriving.result().ack()
        except (AMQPError, OSError, RuntimeError) as error:
            logger.debug("acknowledging an event: %r", error)
        return arriving.result()

    def _on_close(self, _: object, reason: BaseException | None) -> None:
        if not self.lost.done():
            self.lost.set_result(str(reason) if reason else "the connection closed")


async def follow(
    url: str,
    *,
    session_id: str | None = None,
    connect_timeout: float = DEFAULT_TIMEOUT_S,
    patience_s: float = 10 * DEFAULT_PATIENCE_S,
    on_ready: Callable[[], None] = lambda: None,
) -> AsyncGenerator[Event, None]:
    """Live results, for ever; a lost connection is made anew.

    Args:
        url: of the broker, `amqp://user:password@host:port/vhost`.
        session_id: only fixes and failures of this one.
        connect_timeout: seconds for the first connection.
        patience_s: how long the broker may be away later.
        on_ready: called each time that events are heard from now on.

    Yields:
        Events as they come; sort by `capture_time` where order matters.

    Raises:
        CaptureError: no AMQP URL.
        BrokerUnreachable: no connection in time, or no exchange of events there.
    """
    parsed, timeout = check_url(url), connect_timeout
    while True:
        feed = await connect(parsed, _subscribe, timeout=timeout)
        timeout = patience_s
        on_ready()
        try:
            while (message := await feed.take()) is not None:
                event = _read(message)
                if event is not None and session_id in (None, event.data.session_id):
                    yield event
            logger.warning("connection lost (%s): what is told meanwhile is not heard", feed.lost.result())
        finally:
            await disconnect(feed.connection)


async def _subscribe(connection: AbstractConnection) -> _Feed:
    channel = await connection.channel()
    feed = _Feed(connection, channel)
    await channel.set_qos(prefetch_count=_HELD, timeout=_STEP_S)
    queue = await channel.declare_queue(exclusive=True, arguments={"x-max-length": _QUEUED}, timeout=_STEP_S)
    try:
        for key in (COMPLETE, FAILED):
            await queue.bind(EXCHANGE, key, timeout=_STEP_S)
    except ChannelNotFoundEntity:
        raise BrokerUnreachable(f"no exchange {EXCHANGE} there: was a worker ever started?", final=True) from None
    await queue.consume(feed.arrived.put, timeout=_STEP_S)
    return feed


def _read(message: AbstractIncomingMessage) -> Event | None:
    model = CompleteEvent if message.routing_key == COMPLETE else FailedEvent
    try:
        return model.model_validate_json(message.body)
    except ValidationError as error:
        logger.warning("an event that is none of this wire: %s", error.errors(include_url=False)[0]["msg"])
        return None
