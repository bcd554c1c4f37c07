"""The plain script: jobs from RabbitMQ, answers to RabbitMQ and Redis, in one straight line on public interfaces.

    AMQP_URL=… REDIS_URL=… QUEUE=… EVENTS_EXCHANGE=… MODEL=model.onnx python -m bench.plain_script

It ends every job as the worker does (result stored unless one is there, reply and event confirmed, then acknowledged)
and batches as well as it can. It has none of the worker's promises: no validation, no limits, no metrics, no cache, no
swap, no way to fail one job of a batch, none to lose its broker.
"""

import asyncio
import os

# As the worker does: one core computes features while the other runs the rest; a product of matrices must not fan out.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from pathlib import Path

import aio_pika
import redis.asyncio
import uvloop
from aio_pika import Message
from aio_pika.abc import AbstractIncomingMessage

from bench.recipe import RawJob, Recipe
from schemas.events import COMPLETE
from schemas.job import JSON_CONTENT_TYPE
from schemas.result import RESULT_KEY_PREFIX

MAX_BATCH = int(os.environ.get("MAX_BATCH", "32"))
TTL_S = 3600


async def main() -> None:
    """Serve until killed."""
    recipe = Recipe(Path(os.environ["MODEL"]))
    store = redis.asyncio.from_url(os.environ["REDIS_URL"])
    connection = await aio_pika.connect(os.environ["AMQP_URL"])
    channel = await connection.channel(publisher_confirms=True)
    await channel.set_qos(prefetch_count=4 * MAX_BATCH)
    events = await channel.get_exchange(os.environ["EVENTS_EXCHANGE"])
    queue = await channel.get_queue(os.environ["QUEUE"])
    inbox: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
    await queue.consume(inbox.put)
    while True:
        batch = [await inbox.get()]
        while len(batch) < MAX_BATCH and not inbox.empty():
            batch.append(inbox.get_nowait())
        jobs = [RawJob(m.message_id or "", str(m.headers["sigmf"]), m.body) for m in batch]
        answers = recipe.locate(jobs)  # On the loop: a thread would cost 10 % more processor time than it frees.
        async with store.pipeline(transaction=False) as pipeline:
            for job, answer in zip(jobs, answers, strict=True):
                pipeline.set(RESULT_KEY_PREFIX + job.job_id, answer.result, nx=True, ex=TTL_S)
            await pipeline.execute()
        replies = [
            channel.default_exchange.publish(
                Message(answer.result, correlation_id=m.correlation_id, content_type=JSON_CONTENT_TYPE),
                m.reply_to or "",
                mandatory=False,  # By direct reply-to the broker would send every one of them back.
            )
            for m, answer in zip(batch, answers, strict=True)
        ]
        live = [
            events.publish(Message(answer.event, content_type=JSON_CONTENT_TYPE), COMPLETE, mandatory=False)
            for answer in answers
        ]
        await asyncio.gather(*replies, *live)
        await batch[-1].ack(multiple=True)


if __name__ == "__main__":
    uvloop.run(main())
