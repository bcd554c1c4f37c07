"""The workers' own word: each is asked from time to time what it serves, where the login may command them.

The question is the control command `info`. It changes nothing, but whoever may ask it may also pause the fleet; most
logins may not, and then the map knows the workers by their results alone.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aio_pika.exceptions import AMQPError, ChannelClosed, DeliveryError, PublishError
from pydantic import ValidationError
from yarl import URL

from client.errors import BrokerUnreachable
from client.job import REPLY_TO
from client.link import as_it_is, check_url, connect, disconnect, user_of
from schemas.control import ALL_WORKERS, EXCHANGE, CommandReply, Info

ASK_EVERY_S: Final = 10.0
SILENT_AFTER_S: Final = 2.5 * ASK_EVERY_S
_STEP_S: Final = 5.0
_KEPT: Final = 200


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """What a worker said last."""

    reply: CommandReply
    heard_s: float

    def silent(self, now_s: float) -> bool:
        """Whether it missed two questions."""
        return now_s - self.heard_s > SILENT_AFTER_S


class Workers:
    """Who answered, bounded; and why nobody is asked, where that is so.

    Attributes:
        seen: by instance, the one heard last at the end.
        refusal: why the workers are not asked; None while they are.
    """

    def __init__(self) -> None:
        self.seen: OrderedDict[str, WorkerSeen] = OrderedDict()
        self.refusal: str | None = None

    def add(self, reply: CommandReply, now_s: float) -> None:
        """Take an answer; one to a command that does not count ends the asking."""
        if not reply.ok:
            self.seen.clear()
            self.refusal = reply.detail
            return
        self.seen[reply.instance] = WorkerSeen(reply, now_s)
        self.seen.move_to_end(reply.instance)
        if len(self.seen) > _KEPT:
            self.seen.popitem(last=False)

    def forget(self, before_s: float) -> None:
        """Let go of who was heard last before an instant."""
        for instance in [name for name, worker in self.seen.items() if worker.heard_s < before_s]:
            del self.seen[instance]


async def ask_workers(url: str, workers: Workers) -> None:
    """Ask until refused; a lost connection is made anew.

    Args:
        url: of the broker.
        workers: takes the answers.
    """
    parsed = check_url(url)
    while workers.refusal is None:
        try:
            await _ask_over_one_connection(parsed, workers)
        except ChannelClosed as error:
            if "ACCESS_REFUSED" in str(error):
                workers.refusal = f"the broker lets {user_of(parsed) or 'this login'} publish nothing to {EXCHANGE}"
            else:  # No worker has ever declared the exchange.
                await asyncio.sleep(ASK_EVERY_S)
        except (BrokerUnreachable, AMQPError, OSError, RuntimeError, TimeoutError):
            await asyncio.sleep(ASK_EVERY_S)
        except asyncio.CancelledError:
            # A silent broker cancels the pending confirm although nobody cancelled this task.
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise


async def _ask_over_one_connection(url: URL, workers: Workers) -> None:
    connection = await connect(url, as_it_is, timeout=ASK_EVERY_S)
    try:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        await _hear(channel, workers)
        while workers.refusal is None:
            await _ask(channel, user_of(url))
            await asyncio.sleep(ASK_EVERY_S)
    finally:
        await disconnect(connection)


async def _hear(channel: AbstractChannel, workers: Workers) -> None:
    async def on_reply(message: AbstractIncomingMessage) -> None:
        try:
            reply = CommandReply.model_validate_json(message.body)
        except ValidationError:
            return  # No worker of a release we know.
        workers.add(reply, asyncio.get_running_loop().time())

    replies = await channel.get_queue(REPLY_TO, ensure=False)
    await replies.consume(on_reply, no_ack=True, timeout=_STEP_S)


async def _ask(channel: AbstractChannel, user: str | None) -> None:
    """Publish the question; that no queue takes it means that no worker is there, which is no error."""
    question = Info(command="info", command_id=uuid4().hex)
    message = aio_pika.Message(
        question.model_dump_json().encode(),
        content_type="application/json",
        correlation_id=question.command_id,
        reply_to=REPLY_TO,
        user_id=user,
    )
    exchange = await channel.get_exchange(EXCHANGE, ensure=False)
    try:
        await exchange.publish(message, ALL_WORKERS, mandatory=True, timeout=_STEP_S)
    except (PublishError, DeliveryError):
        return
