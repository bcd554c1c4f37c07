"""The connection to RabbitMQ: one channel that publishes jobs and hears the replies to them.

Direct reply-to ties a reply to the channel that published its request. So a link is used until it breaks and then
replaced by a new one; whoever still waits publishes again there.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange, AbstractIncomingMessage
from aio_pika.exceptions import (
    AMQPError,
    AuthenticationError,
    ChannelClosed,
    DeliveryError,
    ProbableAuthenticationError,
    PublishError,
)
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    RetryError,
    retry_if_exception,
    stop_after_delay,
    wait_random_exponential,
)
from yarl import URL

from client.errors import BrokerUnreachable, CaptureError, PublishRefused
from client.job import REPLY_TO, Job
from schemas.job import EXCHANGE, ROUTING_KEY
from schemas.urls import parse_url

logger = logging.getLogger(__name__)

_HEARTBEAT_S: Final = 10
_DEFAULT_USER: Final = "guest"
_CLOSE_TIMEOUT_S: Final = 2.0
_FIRST_WAIT_S: Final = 0.1
_LONGEST_WAIT_S: Final = 2.0

_TOO_LARGE: Final = re.compile(r"message size (\d+) is larger than")

Prepared = TypeVar("Prepared")
OnReply = Callable[[AbstractIncomingMessage], None]


def check_url(url: str) -> URL:
    """Read a broker's URL.

    Raises:
        CaptureError: no AMQP URL; the message does not repeat it, as it may hold a password.
    """
    try:
        parsed = parse_url(url)
    except ValueError as error:
        raise CaptureError(f"the broker's URL {error}") from None
    if parsed.scheme not in ("amqp", "amqps") or not parsed.host:
        raise CaptureError("the broker's URL must be amqp://user:password@host:port/vhost, or amqps://")
    return parsed


def user_of(url: URL) -> str | None:
    """The user a connection has, to be stated as `user_id`; None where only the broker knows (a certificate)."""
    return None if url.query.get("auth", "").lower() == "external" else url.user or _DEFAULT_USER


class LinkLost(ConnectionError):
    """The link broke; what was published on it may or may not have arrived."""


class Link:
    """A connection, its channel, and the consumer of replies. Made by `open_link`."""

    def __init__(self, connection: AbstractConnection, channel: AbstractChannel, exchange: AbstractExchange) -> None:
        # The connection holds its channels weakly.
        self._connection, self._channel, self._exchange = connection, channel, exchange
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        channel.close_callbacks.add(self._on_close)

    async def publish(self, job: Job, timeout: float) -> None:
        """Publish a job and wait until the broker has it.

        Raises:
            PublishRefused: the broker says no; the job is nowhere.
            LinkLost: the link broke or stayed silent; the job may be in the queue.
        """
        try:
            await self._exchange.publish(job.message(), ROUTING_KEY, mandatory=True, timeout=timeout)
        except PublishError:
            raise PublishRefused(
                job.job_id,
                f"no queue takes routing key {ROUTING_KEY!r} of {EXCHANGE}: was a worker ever started there?",
            ) from None
        except DeliveryError:
            raise PublishRefused(job.job_id, "the queue is full: try again later", retriable=True) from None
        except ChannelClosed as error:
            if (size := _refused_size(error)) is not None and size != len(job.body):
                raise self._break("another job on it was too large") from error
            raise PublishRefused(job.job_id, f"it closed the channel: {error}") from error
        except TimeoutError:
            raise self._break(f"no confirm within {timeout:.3g} s: is the broker blocked by an alarm?") from None
        except (AMQPError, OSError, RuntimeError) as error:
            raise self._break(f"{type(error).__name__} {error}".strip()) from error
        except asyncio.CancelledError:
            # A silent broker cancels the pending confirm although nobody cancelled this task.
            if _was_cancelled():
                raise
            raise self._break("the broker fell silent") from None

    async def close(self) -> None:
        """Close; never raises and never takes long, as a broken link has nobody to say goodbye to."""
        self._break("closed")
        await disconnect(self._connection)

    def _on_close(self, _: object, reason: BaseException | None) -> None:
        self._break(f"{reason}" if reason else "the connection closed")

    def _break(self, reason: str) -> LinkLost:
        if not self.lost.done():
            self.lost.set_result(reason)
        return LinkLost(reason)


async def open_link(url: URL, on_reply: OnReply, *, timeout: float) -> Link:
    """Connect for publishing, trying again until it works.

    Args:
        url: of the broker, `amqp://user:password@host:port/vhost`.
        on_reply: called with every reply; must not block.
        timeout: seconds for all attempts together.

    Raises:
        BrokerUnreachable: not within the timeout, or the login was refused.
    """
    return await connect(url, lambda connection: _prepare(connection, on_reply), timeout=timeout)


async def connect(
    url: URL, prepare: Callable[[AbstractConnection], Awaitable[Prepared]], *, timeout: float
) -> Prepared:
    """Connect and prepare, trying again until both work.

    Args:
        url: of the broker.
        prepare: makes of a connection what is wanted, such as `as_it_is`; the connection is closed where it fails.
        timeout: seconds for all attempts together; closing what was opened takes some seconds more at most.

    Raises:
        BrokerUnreachable: not within the timeout, or the login was refused.
    """
    failures: list[str] = []
    retrying = AsyncRetrying(
        retry=retry_if_exception(_may_pass),
        stop=stop_after_delay(timeout),
        wait=wait_random_exponential(_FIRST_WAIT_S, _LONGEST_WAIT_S),
        before_sleep=lambda state: failures.append(_reason(state)),
    )
    try:
        async with asyncio.timeout(timeout):
            return await retrying(_connect_once, url, prepare)
    except (RetryError, TimeoutError) as error:
        last = failures[-1] if failures else "it does not answer"
        raise BrokerUnreachable(f"no connection to {without_password(url)} within {timeout:g} s: {last}") from error


async def as_it_is(connection: AbstractConnection) -> AbstractConnection:
    """For `connect`, where nothing needs to be prepared."""
    return connection


async def _connect_once(url: URL, prepare: Callable[[AbstractConnection], Awaitable[Prepared]]) -> Prepared:
    try:
        connection = await _open(url)
    except (AuthenticationError, ProbableAuthenticationError) as error:
        raise BrokerUnreachable(f"{without_password(url)} refused the login: {error}", final=True) from error
    try:
        return await prepare(connection)
    except BaseException:
        await disconnect(connection)
        raise


async def _open(url: URL) -> AbstractConnection:
    connection = aio_pika.Connection(
        url if "heartbeat" in url.query else url.update_query(heartbeat=_HEARTBEAT_S),
        client_properties={"connection_name": "heimdall client"},
    )
    if url.scheme == "amqps":
        # A peer that fell silent does not answer the end of TLS either; asyncio would wait half a minute for that.
        connection.kwargs["ssl_shutdown_timeout"] = _CLOSE_TIMEOUT_S
    await connection.connect()
    return connection


async def _prepare(connection: AbstractConnection, on_reply: OnReply) -> Link:
    channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
    exchange = await channel.get_exchange(EXCHANGE, ensure=False)
    link = Link(connection, channel, exchange)

    async def deliver(message: AbstractIncomingMessage) -> None:
        on_reply(message)

    replies = await channel.get_queue(REPLY_TO, ensure=False)
    await replies.consume(deliver, no_ack=True)
    return link


async def disconnect(connection: AbstractConnection) -> None:
    """Close a connection, broken or not; never takes long."""
    try:
        async with asyncio.timeout(_CLOSE_TIMEOUT_S):
            await connection.close()
    except (AMQPError, OSError, RuntimeError, TimeoutError) as error:
        logger.debug("closing the connection: %r", error)
    except asyncio.CancelledError:
        if _was_cancelled():
            raise


def _refused_size(error: ChannelClosed) -> int | None:
    """Of the message over whose size RabbitMQ closed the channel, and with it all others that waited; else None."""
    found = _TOO_LARGE.search(str(error))
    return int(found[1]) if found else None


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, BrokerUnreachable):
        return False
    return isinstance(error, AMQPError | OSError | TimeoutError | RuntimeError)


def _reason(state: RetryCallState) -> str:
    error = state.outcome.exception() if state.outcome else None
    return str(error) or type(error).__name__


def without_password(url: URL) -> str:
    """A URL that may be shown."""
    return str(url.with_password(None).with_query(None))


def _was_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
