"""Reading `heimdall.dead` without losing or reordering what lies there.

Letters are delivered and stay unacknowledged: whatever happens to this process, the broker has them still. What is to
stay is given back at the end. No more letters are read than lay there at the start, so letters that arrive meanwhile
(a replayed job that fails again) cannot keep a reader busy for ever.

They are read in rounds of 32, each on a channel and with a consumer of its own, because of two habits of the broker:
a quorum queue puts back what one command returns in the order of an Erlang map, which is that of the messages up to 32
keys; and a channel that has 32 acknowledgements under way keeps later ones to itself, and forgets them when it closes.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import AMQPError, ChannelClosed

from client.errors import BrokerUnreachable
from worker.amqp.topology import DEAD
from worker.commands.dead_letter import Letter, read_letter
from worker.commands.fleet import connect

_ROUND: Final = 32
MOST: Final = _ROUND * 2000
"""Letters that one reader can hold: a connection has 2047 channels."""
_STEP_TIMEOUT_S: Final = 15.0
_QUIET_S: Final = 2.0
"""A letter that does not come for so long is held by another reader."""
LOST: Final = (AMQPError, OSError, RuntimeError, TimeoutError)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a letter is held: the round, and the tag of its delivery there."""

    round: int
    tag: int


@dataclass(frozen=True, slots=True)
class Held:
    """A letter that this reader holds.

    Attributes:
        letter: as read.
        body: of the job.
        place: by which it is acknowledged.
    """

    letter: Letter
    body: bytes
    place: Place


@dataclass(slots=True)
class _Round:
    """A channel, and the tags of what is held on it: no bodies, as the queue may have more than this machine."""

    channel: AbstractChannel
    held: set[int] = field(default_factory=set)

    async def take(self, count: int) -> list[AbstractIncomingMessage]:
        """The next letters, at most so many; fewer where others hold them."""
        arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        await self.channel.set_qos(prefetch_count=count, timeout=_STEP_TIMEOUT_S)
        queue = await self.channel.get_queue(DEAD, ensure=False)
        consumer = await queue.consume(arrived.put, timeout=_STEP_TIMEOUT_S)
        messages: list[AbstractIncomingMessage] = []
        with suppress(TimeoutError):
            while len(messages) < count:
                messages.append(await asyncio.wait_for(arrived.get(), _QUIET_S))
        await queue.cancel(consumer, timeout=_STEP_TIMEOUT_S)
        while not arrived.empty():  # Came while the consumer was being cancelled.
            messages.append(arrived.get_nowait())
        self.held.update(message.delivery_tag or 0 for message in messages)
        return messages

    async def acknowledge(self, tag: int) -> None:
        """Remove a letter from the queue for good."""
        underlay = await self.channel.get_underlay_channel()
        await underlay.basic_ack(tag)
        self.held.discard(tag)

    async def close(self) -> None:
        """Give back what is held. The broker answers when it has seen that, and every acknowledgement before."""
        if self.channel.is_closed:
            return
        if self.held:
            underlay = await self.channel.get_underlay_channel()
            await underlay.basic_nack(max(self.held), multiple=True, requeue=True)
            self.held.clear()
        await self.channel.close()


class DeadLetters:
    """The queue, as one reader sees it. Made by `open_dead_letters`."""

    def __init__(self, connection: AbstractConnection, ready: int) -> None:
        self.connection = connection
        self.ready = ready
        """Letters that lay there at the start; what another reader holds is not among them."""
        self.fetched = 0
        self._rounds: list[_Round] = []

    async def read(self) -> AsyncIterator[Held]:
        """All letters, from the oldest on. Each is held until it is acknowledged or given back.

        Break off only to do no more with this queue: what was given back of a part of it goes to its end.

        Raises:
            BrokerUnreachable: the connection is gone; every letter that was not acknowledged is in the queue.
        """
        while self.fetched < min(self.ready, MOST):
            try:
                round_ = _Round(await self.connection.channel(publisher_confirms=False))
                self._rounds.append(round_)
                messages = await round_.take(min(_ROUND, self.ready - self.fetched))
            except LOST as error:
                raise _gone(error) from error
            self.fetched += len(messages)
            if not messages:
                return
            for message in messages:
                yield Held(read_letter(message), message.body, Place(len(self._rounds) - 1, message.delivery_tag or 0))

    async def acknowledge(self, places: Iterable[Place]) -> None:
        """Remove letters from the queue for good.

        Raises:
            BrokerUnreachable: the connection is gone; they are in the queue still.
        """
        try:
            for place in places:
                await self._rounds[place.round].acknowledge(place.tag)
        except LOST as error:
            raise _gone(error) from error

    async def close(self) -> None:
        """Give back what is held, oldest first, and wait until the broker has seen every acknowledgement."""
        for round_ in self._rounds:
            await round_.close()


@asynccontextmanager
async def open_dead_letters(url: str) -> AsyncIterator[DeadLetters]:
    """The dead letters of a broker's virtual host.

    Raises:
        CaptureError: the URL is none.
        BrokerUnreachable: no connection, no such queue, or no right to read it.
    """
    connection = await connect(url)
    async with connection:
        try:
            async with connection.channel(publisher_confirms=False) as channel:
                queue = await channel.declare_queue(DEAD, passive=True, timeout=_STEP_TIMEOUT_S)
        except ChannelClosed as error:
            raise BrokerUnreachable(f"{DEAD} cannot be read: {error}; was a worker ever started there?") from error
        letters = DeadLetters(connection, queue.declaration_result.message_count or 0)
        try:
            yield letters
        finally:
            try:
                await letters.close()
            except LOST as error:
                raise _gone(error) from error


def _gone(error: BaseException) -> BrokerUnreachable:
    why = f"{error}" or type(error).__name__
    return BrokerUnreachable(f"the connection was lost: {why}. Letters not acknowledged before are in {DEAD} still")
