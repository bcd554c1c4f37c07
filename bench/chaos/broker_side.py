"""What the suite itself asks of the broker: empty the stage, count, collect dead letters, move what was not routed."""

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

import aio_pika
from aio_pika.abc import AbstractChannel

from bench.chaos.recorder import EVENTS, REPLIES, USER
from schemas.job import EXCHANGE, ROUTING_KEY

JOBS: Final = "heimdall.inference"
DEAD: Final = "heimdall.dead"
UNROUTED: Final = "heimdall.unrouted"
QUEUES: Final = (JOBS, DEAD, UNROUTED, REPLIES, EVENTS)
_TIMEOUT_S: Final = 30.0

Answer = TypeVar("Answer")


def on_channel(url: str, use: Callable[[AbstractChannel], Awaitable[Answer]]) -> Answer:
    """Run something on a channel of its own.

    Raises:
        TimeoutError: the broker is silent.
        aiormq.exceptions.AMQPError: it refuses.
    """

    async def run() -> Answer:
        async with asyncio.timeout(_TIMEOUT_S), await aio_pika.connect(url) as connection:
            return await use(await connection.channel(on_return_raises=True))

    return asyncio.run(run())


def delete_queues(url: str) -> None:
    """Remove every queue that a scenario may have left; workers declare them anew."""

    async def delete(channel: AbstractChannel) -> None:
        for name in QUEUES:
            await channel.queue_delete(name)

    on_channel(url, delete)


def delete_queue(url: str, name: str) -> None:
    """Delete a queue with all that is in it."""
    on_channel(url, lambda channel: channel.queue_delete(name))


def ready(url: str, *names: str) -> int:
    """Messages in queues that nobody holds."""

    async def count(channel: AbstractChannel) -> int:
        queues = [await channel.declare_queue(name, passive=True) for name in names]
        return sum(queue.declaration_result.message_count or 0 for queue in queues)

    return on_channel(url, count)


def dead_letters(url: str) -> list[tuple[str, str | None]]:
    """Take all dead letters: (job id, code); a letter made by the broker has no code."""

    async def take(channel: AbstractChannel) -> list[tuple[str, str | None]]:
        found = []
        queue = await channel.get_queue(DEAD)
        while (letter := await queue.get(fail=False, no_ack=True)) is not None:
            code = letter.headers.get("heimdall-code")
            job = letter.headers.get("heimdall-job-id") or letter.message_id
            found.append((str(job), None if code is None else str(code)))
        return found

    return on_channel(url, take)


def reroute(url: str) -> list[str]:
    """Publish again what lies in `heimdall.unrouted`, as an operator would; the job ids."""

    async def move(channel: AbstractChannel) -> list[str]:
        moved = []
        queue = await channel.get_queue(UNROUTED)
        exchange = await channel.get_exchange(EXCHANGE, ensure=False)
        while (message := await queue.get(fail=False)) is not None:
            await exchange.publish(message, ROUTING_KEY, mandatory=True, timeout=_TIMEOUT_S)
            await message.ack()
            moved.append(str(message.message_id))
        return moved

    return on_channel(url, move)


def command(url: str, name: str, *, to: str = "all", timeout: float = 20.0) -> dict[str, Any]:
    """Give a control command to one worker or all; the first answer, or an empty one."""

    async def give(channel: AbstractChannel) -> dict[str, Any]:
        replies = await channel.declare_queue(exclusive=True)
        body = json.dumps({"command_id": uuid.uuid4().hex, "command": name}).encode()
        exchange = await channel.get_exchange("heimdall.control", ensure=False)
        message = aio_pika.Message(body, reply_to=replies.name, user_id=USER)
        await exchange.publish(message, f"worker.{to}", mandatory=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout), replies.iterator(no_ack=True) as answers:
                async for answer in answers:
                    return dict(json.loads(answer.body))
        return {}

    return on_channel(url, give)
