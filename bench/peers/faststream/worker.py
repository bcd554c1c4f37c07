"""A FastStream application: one subscriber whose return value is the reply."""

# mypy: disable-error-code="import-not-found, untyped-decorator"
# The library lives in the peer's own environment, not in the one that checks types.

from typing import Any

import redis.asyncio
import uvloop
from faststream import AckPolicy, FastStream
from faststream.rabbit import Channel, RabbitBroker, RabbitExchange, RabbitQueue, RabbitResponse

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


async def read_job(message: Any) -> RawJob:
    """From a delivery to what the handler takes."""
    return RawJob(message.message_id, str(message.headers["sigmf"]), message.body)


@broker.subscriber(RabbitQueue(settings.queue, declare=False), decoder=read_job, ack_policy=AckPolicy.NACK_ON_ERROR)
async def locate(job: RawJob) -> RabbitResponse:
    """Store, tell, and return the reply, which the broker object publishes before it acknowledges."""
    answer = recipe.locate([job])[0]
    result = (await store(client, [(job.job_id, answer.result)]))[0]
    await broker.publish(answer.event, exchange=events, routing_key=EVENT_KEY, mandatory=False, content_type=JSON)
    return RabbitResponse(result, content_type=JSON, mandatory=False)


@app.after_startup
async def started() -> None:
    """Tell that jobs are taken."""
    say_ready()


if __name__ == "__main__":
    uvloop.run(app.run())
