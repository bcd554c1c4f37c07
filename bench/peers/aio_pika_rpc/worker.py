"""One job after the other: the RPC server of aio-pika's tutorial, with the outcome that every peer has."""

import asyncio

import aio_pika
import redis.asyncio
import uvloop

from bench.peers.outcomes import EVENT_KEY, PeerSettings, event_message, job_of, reply_message, say_ready, store
from bench.recipe import Recipe


async def main() -> None:
    """Serve until killed."""
    settings = PeerSettings.from_environment()
    recipe = Recipe(settings.model, settings.threads)
    client = redis.asyncio.Redis.from_url(settings.redis_url)
    connection = await aio_pika.connect_robust(settings.amqp_url)
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=settings.prefetch)
        events = await channel.get_exchange(settings.events_exchange)
        queue = await channel.get_queue(settings.queue)
        async with queue.iterator() as messages:
            say_ready()
            async for message in messages:
                async with message.process(requeue=True):
                    job = job_of(message)
                    answer = recipe.locate([job])[0]
                    result = (await store(client, [(job.job_id, answer.result)]))[0]
                    reply = reply_message(result, message.correlation_id)
                    await asyncio.gather(
                        channel.default_exchange.publish(reply, message.reply_to or "", mandatory=False),
                        events.publish(event_message(answer), EVENT_KEY, mandatory=False),
                    )


if __name__ == "__main__":
    uvloop.run(main())
