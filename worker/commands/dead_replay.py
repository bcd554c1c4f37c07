"""Dead letters back to work, in an order in which a crash at any point loses none of them.

stored error deleted → job published, confirmed and routed → letter acknowledged

A stored outcome is repeated, never computed anew: while the error of a job is stored, its replay would only be given
the error again. So the error goes first, and nothing but an error of this very input.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, Protocol

import aio_pika
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import ChannelClosed, DeliveryError, PublishError

from client.errors import BrokerUnreachable
from schemas.job import EXCHANGE, ROUTING_KEY
from worker.commands.dead_letter import Letter, is_job_id
from worker.commands.dead_queue import LOST, DeadLetters, Held
from worker.commands.dead_selection import Selection

AT_ONCE: Final = 64
"""Letters whose bodies are in memory and whose confirms are awaited together."""
_CONFIRM_TIMEOUT_S: Final = 30.0


class Fate(StrEnum):
    """What became of a letter."""

    REPLAYED = "replayed"
    """The job is in the queue again; the letter is gone."""
    ANSWERED = "answered"
    """A result of this very input is stored: an earlier replay's. The letter is gone."""
    KEPT = "kept"
    """The letter stays."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """One letter and its fate.

    Attributes:
        job_id: under which it was published.
        why: it stays, or what was done.
    """

    letter: Letter
    fate: Fate
    job_id: str | None
    why: str = ""


class Stored(Protocol):
    """The stored outcomes, as far as a replay needs them."""

    async def make_way(self, letter: Letter) -> "Way":
        """Remove the stored error of this letter's job, if that is what is stored."""

    async def put_back(self, letter: Letter) -> None:
        """Store what `make_way` removed again."""


class Way(StrEnum):
    """What the store says to a replay under the same id."""

    FREE = "free"
    ANSWERED = "a result of this very input is stored already"
    TAKEN = "the id's stored outcome answers other input, or another user: replay with --new-id"


@dataclass(frozen=True, slots=True)
class Manner:
    """How to replay.

    Attributes:
        new_id: publish under another id, as oneself; no stored outcome is touched.
        user: who we are to the broker.
        routing_key: None = the job's own, or else the default one.
    """

    new_id: bool
    user: str | None
    routing_key: str | None = None

    def job_id(self, letter: Letter) -> str | None:
        """The id to publish under."""
        return letter.new_id() if self.new_id else letter.job_id

    def message(self, held: Held) -> aio_pika.Message:
        """The job again: body, id, content type, correlation id, publisher and the headers that a worker reads."""
        letter = held.letter
        return aio_pika.Message(
            held.body,
            headers=dict(letter.headers),
            message_id=self.job_id(letter),
            content_type=letter.content_type,
            correlation_id=letter.correlation_id,
            reply_to=None if self.new_id else letter.reply_to,
            # The publisher is part of what an outcome answers: under another name his own repeat would be a conflict.
            user_id=self.user if self.new_id else letter.publisher,
            timestamp=datetime.now(UTC),
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )

    def key(self, letter: Letter) -> str:
        """Where the job goes."""
        return self.routing_key or letter.routing_key or ROUTING_KEY


@dataclass(slots=True)
class Replay:
    """A replay under way."""

    letters: DeadLetters
    stored: Stored | None
    manner: Manner
    channel: AbstractChannel
    done: list[Replayed] = field(default_factory=list)

    async def run(self, selection: Selection, most: int) -> list[Replayed]:
        """Replay the letters that are meant, at most so many; the others are held until the end, then given back.

        Raises:
            BrokerUnreachable: the connection is gone. Each letter was replayed or is in the queue; perhaps both, and
                its next replay is then a repeat.
        """
        waiting: list[Held] = []
        meant = 0
        async for held in self.letters.read():
            if held.letter in selection and meant < most:
                waiting.append(held)
                meant += 1
            if len(waiting) == AT_ONCE:
                await self._replay(waiting)
                waiting = []
        await self._replay(waiting)
        return self.done

    async def _replay(self, held: Sequence[Held]) -> None:
        results = await asyncio.gather(*(self._publish(one) for one in held), return_exceptions=True)
        fates = [(one, fate) for one, fate in zip(held, results, strict=True) if isinstance(fate, Replayed)]
        self.done += [fate for _, fate in fates]
        # What was published is acknowledged, whatever became of its neighbours.
        await self.letters.acknowledge(one.place for one, fate in fates if fate.fate is not Fate.KEPT)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _publish(self, held: Held) -> Replayed:
        letter, job_id = held.letter, self.manner.job_id(held.letter)
        if not is_job_id(job_id):
            return Replayed(letter, Fate.KEPT, job_id, "its job id is none that a worker takes: replay with --new-id")
        way = await self.stored.make_way(letter) if self.stored else Way.FREE
        if way is not Way.FREE:
            return Replayed(letter, Fate.ANSWERED if way is Way.ANSWERED else Fate.KEPT, job_id, way)
        published = False
        try:
            why = await self._send(held)
            published = why is None
        finally:
            if not published and self.stored is not None:
                await self.stored.put_back(letter)
        return Replayed(letter, Fate.REPLAYED if published else Fate.KEPT, job_id, why or "")

    async def _send(self, held: Held) -> str | None:
        """Publish; None once a queue has it, or else why none does."""
        key = self.manner.key(held.letter)
        try:
            exchange = await self.channel.get_exchange(EXCHANGE, ensure=False)
            await exchange.publish(self.manner.message(held), key, mandatory=True, timeout=_CONFIRM_TIMEOUT_S)
        except PublishError:
            return f"no queue takes the routing key {key}"
        except DeliveryError:
            return "the job queue is full: try again later"
        except LOST as error:
            raise self._refusal(held.letter, error) from error
        return None

    def _refusal(self, letter: Letter, error: BaseException) -> BrokerUnreachable:
        if isinstance(error, ChannelClosed) and "user_id" in str(error):
            return BrokerUnreachable(
                f"job {letter.job_id} is {letter.publisher}'s, and the broker does not let {self.manner.user} publish "
                f"for others: log in as {letter.publisher} or as a user with the tag impersonator, or publish it as "
                "your own with --new-id. The letter is kept"
            )
        return BrokerUnreachable(f"the broker did not take job {letter.job_id}: {error or type(error).__name__}")


async def open_replay(letters: DeadLetters, stored: Stored | None, manner: Manner) -> Replay:
    """A replay on a channel of its own: what the broker refuses there does not give the letters back."""
    channel = await letters.connection.channel(publisher_confirms=True, on_return_raises=True)
    return Replay(letters, stored, manner, channel)
