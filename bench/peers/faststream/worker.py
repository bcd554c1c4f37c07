"""A FastStream application: one subscriber that replies itself, so that reply and event are confirmed together."""

# mypy: disable-error-code="import-not-found, untyped-decorator"
# The library lives in the peer's own environment, not in the one that checks types.

import asyncio
from typing import Any, NamedTuple

import redis.asyncio
import uvloop
from faststream import AckPolicy, FastStream
from faststream.rabbit import Channel, RabbitBroker, RabbitExchange, RabbitQueue

from bench.peers.outcomes import EVENT_KEY, JSON, PeerSettings, say_ready, store
from bench.recipe import RawJob, Recipe

settings = PeerSettings.from_environment()
recipe = Recipe(settings.model, settings.threads)
client = redis.asyncio.Redis.from_url(settings.redis_url)
broker = RabbitBroker(
    settings.amqp_url,
    default_channel=Channel(prefetch_count=settings.prefetch),
    apply_types=False,
    logger=None,
)
app = FastStream(broker, logger=None)
events = RabbitExchange(settings.events_exchange, declare=False)


class Asked(NamedTuple):
    """A job, and who wants to know."""

    job: RawJob
    reply_to: str
    correlation_id: str


async def read_job(message: Any) -> Asked:
    """From a delivery to what the handler takes."""
    job = RawJob(message.message_id, str(message.headers["sigmf"]), message.body)
    return Asked(job, message.reply_to, message.correlation_id)


@broker.subscriber(
    RabbitQueue(settings.queue, declare=False), decoder=read_job, ack_policy=AckPolicy.NACK_ON_ERROR, no_reply=True
)
async def locate(asked: Asked) -> None:
    """Store, reply and tell; the library acknowledges when this returns."""
    answer = recipe.locate([asked.job])[0]
    result = (await store(client, [(asked.job.job_id, answer.result)]))[0]
    options = {"mandatory": False, "content_type": JSON}
    await asyncio.gather(
        broker.publish(result, queue=asked.reply_to, correlation_id=asked.correlation_id, **options),
        broker.publish(answer.event, exchange=events, routing_key=EVENT_KEY, **options),
    )


@app.after_startup
async def started() -> None:
    """Tell that jobs are taken."""
    say_ready()


if __name__ == "__main__":
    uvloop.run(app.run())
