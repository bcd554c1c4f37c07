"""One session with the broker: a connection that consumes and one that publishes, which live and die together.

A delivery belongs to the session that delivered it. When either connection is lost, the session ends: the broker
delivers again what was not acknowledged, and the store repeats what was already computed. So nothing needs repair.

Two connections, because an alarm of the broker blocks those that publish.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import aio_pika
import aiormq.abc
import aiormq.exceptions
import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection
from pamqp.common import FieldTable
from yarl import URL

from worker.amqp.flow import Flow
from worker.amqp.frames import tolerate_bad_content
from worker.amqp.ledger import AckLedger
from worker.amqp.message import Message
from worker.amqp.publishing import Publication, Publisher
from worker.amqp.receiving import read_delivery_frames
from worker.amqp.stream import DELIVER, StreamConnection, ack_frame, requeue_frame
from worker.amqp.topology import Topology
from worker.errors import Unavailable
from worker.tls import explain

log = structlog.get_logger(__name__)

tolerate_bad_content()

HEARTBEAT_S: Final = 10
STEP_TIMEOUT_S: Final = 15.0
CLOSE_TIMEOUT_S: Final = 3.0
"""After it a connection is cut off; less than what the worker keeps of its grace period for closing."""
LOST: Final = (aiormq.exceptions.AMQPError, ConnectionError, OSError, TimeoutError, RuntimeError)
"""What the library raises when a channel or connection is gone."""


class AmqpSession:
    """An open session; `open_session` makes one.

    Args:
        consumer: connection that consumes.
        publisher: connection that publishes.
        confirm_timeout: seconds a confirm may take before the session is given up.
    """

    def __init__(self, consumer: StreamConnection, publisher: StreamConnection, confirm_timeout: float) -> None:
        self.consumer = consumer
        self.publisher = publisher
        self.lost = asyncio.Event()
        self.reason = ""
        """Why it was lost."""
        self.idle = asyncio.Event()
        """Set while the broker sends no jobs."""
        self.idle.set()
        self._confirm_timeout = confirm_timeout
        self._ledger = AckLedger()
        self._nothing_held = asyncio.Event()
        self._nothing_held.set()
        # The connection holds its channels weakly.
        self._jobs: AbstractChannel
        self._out: AbstractChannel
        self.control: AbstractChannel
        self._inbox: aiormq.abc.AbstractChannel
        self._publisher: Publisher
        self._queue = ""

    async def prepare(self, topology: Topology, prefetch_count: int) -> None:
        """Open the channels and establish the topology."""
        for connection in (self.consumer, self.publisher):
            connection.close_callbacks.add(self._on_lost)
        self._out = await self._channel(self.publisher)
        self._jobs = await self._channel(self.consumer, publisher_confirms=False)
        self.control = await self._channel(self.consumer, publisher_confirms=False)
        self._queue = (await topology.establish(self._jobs, STEP_TIMEOUT_S)).name
        await self._jobs.set_qos(prefetch_count=prefetch_count, timeout=STEP_TIMEOUT_S)
        self._inbox = await self._jobs.get_underlay_channel()
        self._inbox.on_consumer_cancel_callbacks.add(self._on_lost)
        self._publisher = Publisher(self.publisher, await self._out.get_underlay_channel())

    async def consume(self, flow: Flow, take: Callable[[Message], None]) -> None:
        """Consume while the flow is open. Ends only by an exception or cancellation.

        What was delivered is settled before the queue is consumed anew: the prefetch is that of each consumer, so the
        next would get as many jobs again beside those that are held.

        Args:
            flow: whether jobs are taken.
            take: gets each message; must not block or raise.
        """

        def on_delivery(method: bytes, header: bytes, body: bytes) -> None:
            message = read_delivery_frames(method, header, body)
            self._ledger.deliver(message.delivery_tag)
            self._nothing_held.clear()
            take(message)

        self.consumer.reader.divert(self._inbox.number, (DELIVER,), on_delivery)
        while True:
            await self._nothing_held.wait()
            await flow.wait(open_=True)
            self.idle.clear()  # Deliveries may come before the answer does.
            consumer = await self._inbox.basic_consume(self._queue, _diverted, timeout=STEP_TIMEOUT_S)
            assert consumer.consumer_tag is not None
            log.info("consumer.started", queue=self._queue)
            await flow.wait(open_=False)
            await self._inbox.basic_cancel(consumer.consumer_tag, timeout=STEP_TIMEOUT_S)
            self.idle.set()
            log.info("consumer.stopped", reasons=flow.reasons)

    async def publish(self, publications: Sequence[Publication]) -> list[bool]:
        """Publish, and await all confirms together.

        Returns:
            Per message whether it was taken: neither returned for want of a queue nor refused by a full one.

        Raises:
            Unavailable: a confirm did not come, or the broker refused; the session is lost then.
        """
        try:
            async with asyncio.timeout(self._confirm_timeout):
                return await self._publisher.publish(publications)
        except LOST as error:
            self.lose(f"publishing failed: {error!r}")
            raise Unavailable(f"publishing failed: {error!r}") from error

    def ack(self, messages: Iterable[Message]) -> None:
        """Acknowledge finished messages of this session, with as few frames as possible.

        On a session that was lost this does nothing: the broker delivers them again.
        """
        finished = {message.delivery_tag for message in messages}
        self._settle([ack_frame(self._inbox.number, tag, multiple) for tag, multiple in self._ledger.finish(finished)])

    def release(self, messages: Iterable[Message]) -> int:
        """Give messages back to the queue, unfinished; those settled already are left out.

        Returns:
            How many were released.
        """
        open_ = [message.delivery_tag for message in messages if self._ledger.drop(message.delivery_tag)]
        self._settle([requeue_frame(self._inbox.number, tag) for tag in open_])
        return len(open_)

    def holds(self, message: Message) -> bool:
        """Whether a message of this session is still to be settled."""
        return message.delivery_tag in self._ledger

    @property
    def held(self) -> int:
        """How many messages are not settled."""
        return len(self._ledger)

    async def close(self) -> None:
        """Close both connections, within `CLOSE_TIMEOUT_S`."""
        self.lose("closed by this worker")
        await asyncio.gather(_close(self.consumer), _close(self.publisher))

    def _settle(self, frames: Sequence[bytes]) -> None:
        if not self._ledger:
            self._nothing_held.set()
        # All in one write: what the ledger asks for holds only while no other frames come in between.
        if self.lost.is_set() or not frames:
            return
        if self._inbox.is_closed or self.consumer.writer.is_closing():
            log.info("broker.settle_failed", error="the channel is closed")
            self.lose("acknowledging failed: the channel is closed")
            return
        self.consumer.writer.write(b"".join(frames))

    async def _channel(self, connection: AbstractConnection, **options: bool) -> AbstractChannel:
        channel = connection.channel(**options)
        await asyncio.wait_for(channel.initialize(), STEP_TIMEOUT_S)
        channel.close_callbacks.add(self._on_lost)
        return channel

    def lose(self, reason: str) -> None:
        """Give the session up; the first reason is kept."""
        if not self.lost.is_set():
            self.reason = reason
        self.lost.set()
        self.idle.set()

    def _on_lost(self, _source: object = None, error: object = None, *_: object) -> None:
        self.lose(repr(error) if error is not None else "the broker closed it, or cancelled the consumer")


async def open_session(
    url: str, topology: Topology, *, prefetch_count: int, confirm_timeout: float, name: str
) -> AmqpSession:
    """Connect twice and prepare everything.

    Raises:
        Unavailable: the broker cannot be reached, or refuses; the message has no secrets.
    """
    opened: list[StreamConnection] = []
    try:
        consumer = await _connect(url, f"heimdall-worker {name} (consume)")
        opened.append(consumer)
        publisher = await _connect(url, f"heimdall-worker {name} (publish)")
        opened.append(publisher)
        session = AmqpSession(consumer, publisher, confirm_timeout)
        await session.prepare(topology, prefetch_count)
    except BaseException as error:
        for connection in opened:
            await _close(connection)
        if isinstance(error, LOST) or (isinstance(error, asyncio.CancelledError) and not _cancelled()):
            raise Unavailable(f"RabbitMQ at {_where(url)}: {explain(error, encrypted=_encrypted(url))}") from error
        raise
    return session


async def _connect(url: str, name: str) -> StreamConnection:
    with_heartbeat = URL(url).update_query(heartbeat=HEARTBEAT_S)
    about: FieldTable = {"connection_name": name}
    return await aio_pika.connect(
        with_heartbeat, timeout=STEP_TIMEOUT_S, client_properties=about, connection_class=StreamConnection
    )


async def _close(connection: StreamConnection) -> None:
    """Close a connection that may be broken already, silent, or blocked with much still to be sent."""
    closing = asyncio.ensure_future(connection.close())
    closing.add_done_callback(_note_close)
    try:
        await asyncio.wait({closing}, timeout=CLOSE_TIMEOUT_S)
    finally:
        if not closing.done():  # The library waits until all is sent, which a blocked broker does not read.
            connection.writer.transport.abort()
            closing.cancel()


def _note_close(closing: asyncio.Task[None]) -> None:
    if not closing.cancelled() and (error := closing.exception()) is not None:
        log.debug("broker.close_failed", error=repr(error))


async def _diverted(_: aiormq.abc.DeliveredMessage) -> None:
    raise AssertionError("a delivery reached the library; the reader takes them all")


def _where(url: str) -> str:
    parsed = URL(url)
    return f"{parsed.host}:{parsed.port or (5671 if _encrypted(url) else 5672)}{parsed.path}"


def _encrypted(url: str) -> bool:
    return URL(url).scheme == "amqps"


def _cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
