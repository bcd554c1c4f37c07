"""A broker and a store in memory: what a worker's parts see of them, and no more.

The broker keeps its own books of what is not acknowledged, as RabbitMQ does, and objects to a tag it does not know.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tests.unit.amqp.messages import Message
from worker.amqp.delivery import read_delivery
from worker.amqp.ledger import AckLedger
from worker.amqp.topology import DEAD
from worker.errors import Unavailable

PREFETCH = 12
MAX_BODY_BYTES = 1_000_000


@dataclass
class Queued:
    """A message in the queue, and how often it was delivered."""

    message: Message
    deliveries: int = 0


@dataclass(eq=False)
class MemorySession:
    """What `AmqpSession` is to those who settle: the real ledger, on books that the broker keeps."""

    broker: "MemoryBroker"
    number: int
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    ledger: AckLedger = field(default_factory=AckLedger)
    unacked: dict[int, Queued] = field(default_factory=dict)
    tags: int = 0

    def holds(self, message):
        """Whether a message is still to be settled."""
        return message.delivery_tag in self.ledger

    async def publish(self, publications):
        """Confirm all, or lose the session; an address that is gone, and a full queue, return what is sent to them."""
        await asyncio.sleep(0)
        if self.lost.is_set() or self.broker.confirms_fail:
            self.broker.confirms_fail = False
            self.lose("publishing failed")
            raise Unavailable("publishing failed")
        taken = [self.broker.take(publication) for publication in publications]
        await asyncio.sleep(0)
        return taken

    def ack(self, messages):
        """Acknowledge with the frames that the ledger asks for."""
        for tag, multiple in self.ledger.finish({message.delivery_tag for message in messages}):
            if not self.lost.is_set():
                self.broker.on_ack(self, tag, multiple=multiple)

    def release(self, messages):
        """Give back what is not settled; how many."""
        dropped = [message.delivery_tag for message in messages if self.ledger.drop(message.delivery_tag)]
        for tag in dropped:
            if not self.lost.is_set():
                self.broker.on_nack(self, tag)
        return len(dropped)

    def lose(self, reason):
        """The connection is gone: what it did not settle is in the queue again."""
        if not self.lost.is_set():
            self.lost.set()
            self.broker.on_lost(self)


class MemoryBroker:
    """One queue. `settled` counts, for every tag of every session, how often it was settled."""

    def __init__(self):
        self.queue: deque[Queued] = deque()
        self.session = MemorySession(self, 1)
        self.settled: Counter[tuple[int, int]] = Counter()
        self.delivered: list[tuple[MemorySession, int]] = []
        self.acked: Counter[str] = Counter()
        self.replies: dict[str, list[bytes]] = {}
        self.dead: Counter[str] = Counter()
        self.unknown_tags: list[tuple[int, int]] = []
        self.confirms_fail = False
        self.dead_refuses = False

    def publish(self, message):
        """Take a job; its correlation id tells it from every other."""
        self.queue.append(Queued(message))

    def deliver(self):
        """Deliver what the prefetch allows, as the intake reads it."""
        session = self.session
        while self.queue and len(session.unacked) < PREFETCH:
            queued = self.queue.popleft()
            session.tags += 1
            session.unacked[session.tags] = queued
            session.ledger.deliver(session.tags)
            self.delivered.append((session, session.tags))
            count = {"x-delivery-count": queued.deliveries} if queued.deliveries else {}
            message = replace(
                queued.message,
                delivery_tag=session.tags,
                redelivered=queued.deliveries > 0,
                headers=queued.message.headers | count,
            )
            yield read_delivery(session, message, MAX_BODY_BYTES)

    def take(self, publication):
        """Whether somebody takes it."""
        if publication.exchange == DEAD:
            if self.dead_refuses:
                self.dead_refuses = False
                return False
            self.dead[publication.correlation_id] += 1
        elif publication.exchange == "":
            if publication.routing_key == "amq.gen-gone":
                return False
            self.replies.setdefault(publication.correlation_id, []).append(publication.body)
        return True

    def on_ack(self, session, tag, *, multiple):
        """Settle a tag, and with `multiple` those before it."""
        if not self._knows(session, tag):
            return
        for covered in [t for t in session.unacked if t == tag or (multiple and t < tag)]:
            queued = session.unacked.pop(covered)
            self.settled[session.number, covered] += 1
            self.acked[queued.message.correlation_id] += 1

    def on_nack(self, session, tag):
        """Back to the head of the queue, and counted."""
        if not self._knows(session, tag):
            return
        self.settled[session.number, tag] += 1
        self._requeue(session.unacked.pop(tag))

    def on_lost(self, session):
        """Back to the queue in its order, and the next session."""
        for tag in sorted(session.unacked, reverse=True):
            self._requeue(session.unacked.pop(tag))
        self.session = MemorySession(self, session.number + 1)

    def _knows(self, session, tag):
        """RabbitMQ closes the channel over a tag that it does not know; what it raises here, a pipeline would catch."""
        if tag in session.unacked:
            return True
        self.unknown_tags.append((session.number, tag))
        session.lose("unknown delivery tag")
        return False

    def _requeue(self, queued):
        queued.deliveries += 1
        self.queue.appendleft(queued)


class MemoryStore:
    """Outcomes that stay where they are; it can be away for some calls, and break over jobs named `bug-…`."""

    def __init__(self):
        self.outcomes: dict[str, bytes] = {}
        self.suspects: Counter[str] = Counter()
        self.away = 0

    async def lookup(self, job_ids: Sequence[str]) -> dict[str, bytes]:
        """What is stored of these."""
        await self._answer()
        return {job_id: self.outcomes[job_id] for job_id in job_ids if job_id in self.outcomes}

    async def save(self, outcomes: Sequence[tuple[str, bytes]]) -> list[bytes]:
        """Store what is not stored; what is stored now."""
        await self._answer()
        for job_id, body in outcomes:
            if job_id.startswith("bug-") and b'"code"' not in body:
                raise KeyError(job_id)
        return [self.outcomes.setdefault(job_id, body) for job_id, body in outcomes]

    async def count_suspect(self, job_id: str) -> int:
        """Count one start."""
        await self._answer()
        self.suspects[job_id] += 1
        return self.suspects[job_id]

    async def clear_suspects(self, job_ids: Sequence[str]) -> None:
        """Forget."""
        for job_id in job_ids:
            self.suspects.pop(job_id, None)

    async def forgive_suspects(self, job_ids: Sequence[str]) -> None:
        """Take one back."""
        self.suspects.subtract(job_ids)

    async def _answer(self) -> None:
        await asyncio.sleep(0)
        if self.away > 0:
            self.away -= 1
            raise Unavailable("the store is away")
