"""A floor: consume, reply, acknowledge, on the public interface of aio-pika, confirms gathered per batch; nothing else.

The reply is as long as a worker's result of the same workload.
"""

import asyncio
import os
from pathlib import Path

import aio_pika
import uvloop
from aio_pika import Message
from aio_pika.abc import AbstractIncomingMessage

from schemas.job import JSON_CONTENT_TYPE

MAX_BATCH = int(os.environ.get("MAX_BATCH", "32"))


async def main(result: bytes) -> None:
    """Serve until killed."""
    connection = await aio_pika.connect(os.environ["AMQP_URL"])
    channel = await connection.channel(publisher_confirms=True)
    await channel.set_qos(prefetch_count=4 * MAX_BATCH)
    queue = await channel.get_queue(os.environ["QUEUE"])
    inbox: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
    await queue.consume(inbox.put)
    while True:
        batch = [await inbox.get()]
        while len(batch) < MAX_BATCH and not inbox.empty():
            batch.append(inbox.get_nowait())
        await asyncio.gather(
            *(
                channel.default_exchange.publish(
                    Message(result, correlation_id=m.correlation_id, content_type=JSON_CONTENT_TYPE),
                    m.reply_to or "",
                    mandatory=False,
                )
                for m in batch
            )
        )
        await batch[-1].ack(multiple=True)


if __name__ == "__main__":
    uvloop.run(main(Path(os.environ["REPLY"]).read_bytes()))
