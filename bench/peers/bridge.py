"""From the queue to an HTTP server and back: many requests in flight, everything else once per group.

    SERVER_URL=http://127.0.0.1:PORT DIALECT=mosec … python -m bench.peers.bridge

Groups form by themselves: what is answered while one group is being settled is the next. A group is one Redis
pipeline, replies and events published together and their confirms awaited together, and as few acknowledgements as
the order of answers allows.
"""

import asyncio
import logging
import os

import aio_pika
import aiohttp
import redis.asyncio
import uvloop
from aio_pika.abc import AbstractChannel, AbstractExchange, AbstractIncomingMessage

from bench.peers.dialects import DIALECTS, Dialect
from bench.peers.outcomes import EVENT_KEY, PeerSettings, event_message, job_of, reply_message, say_ready, store
from bench.recipe import Answer
from worker.amqp.ledger import AckLedger

log = logging.getLogger("bridge")

REQUEST_TIMEOUT_S = 60.0
SERVER_TIMEOUT_S = 180.0
Answered = tuple[AbstractIncomingMessage, Answer]


class Bridge:
    """One consumer, one server.

    Args:
        url: that takes jobs.
        client: to the store.
        channel: that the jobs come from, and replies and events go to.
    """

    def __init__(
        self,
        url: str,
        dialect: Dialect,
        http: aiohttp.ClientSession,
        client: redis.asyncio.Redis,
        channel: AbstractChannel,
        events: AbstractExchange,
    ) -> None:
        self._url = url
        self._dialect = dialect
        self._http = http
        self._client = client
        self._channel = channel
        self._events = events
        self._ledger = AckLedger()
        self._answered: list[Answered] = []
        self._news = asyncio.Event()

    async def take(self, message: AbstractIncomingMessage) -> None:
        """Ask the server for one job; the library runs this for many at once."""
        self._ledger.deliver(message.delivery_tag or 0)
        request = self._dialect.ask(job_of(message))
        async with self._http.post(self._url, data=request.body, headers=request.headers) as response:
            body = await response.read()
            if response.status != 200:
                log.error("the server answered %d: %s", response.status, body[-600:].decode(errors="replace"))
                return  # Not acknowledged: what a peer cannot do shows as a job without an answer.
            self._answered.append((message, self._dialect.read(body, response.headers)))
        self._news.set()

    async def settle(self) -> None:
        """Settle what is answered, group by group. Ends only by an exception or cancellation."""
        while True:
            await self._news.wait()
            self._news.clear()
            group, self._answered = self._answered, []
            await self._settle(group)

    async def _settle(self, group: list[Answered]) -> None:
        results = await store(self._client, [(m.message_id or "", answer.result) for m, answer in group])
        replies = [
            self._channel.default_exchange.publish(
                reply_message(result, m.correlation_id), m.reply_to or "", mandatory=False
            )
            for result, (m, _) in zip(results, group, strict=True)
        ]
        told = [self._events.publish(event_message(answer), EVENT_KEY, mandatory=False) for _, answer in group]
        await asyncio.gather(*replies, *told)
        messages = {m.delivery_tag or 0: m for m, _ in group}
        for tag, multiple in self._ledger.finish(set(messages)):
            await messages[tag].ack(multiple=multiple)


async def main() -> None:
    """Serve until killed."""
    settings, server = PeerSettings.from_environment(), os.environ["SERVER_URL"]
    dialect = DIALECTS[os.environ["DIALECT"]]
    async with (
        _http(settings.prefetch) as http,
        redis.asyncio.Redis.from_url(settings.redis_url) as client,
        await aio_pika.connect(settings.amqp_url) as connection,
    ):
        await _await_server(http, server + os.environ["HEALTH_PATH"])
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=settings.prefetch)
        events = await channel.get_exchange(settings.events_exchange)
        bridge = Bridge(server + dialect.path, dialect, http, client, channel, events)
        await (await channel.get_queue(settings.queue)).consume(bridge.take)
        say_ready()
        await bridge.settle()


def _http(connections: int) -> aiohttp.ClientSession:
    """A client that keeps a connection for every request in flight."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, keepalive_timeout=REQUEST_TIMEOUT_S),
        timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("Accept-Encoding", "User-Agent"),
    )


async def _await_server(http: aiohttp.ClientSession, url: str) -> None:
    async with asyncio.timeout(SERVER_TIMEOUT_S):
        while True:
            try:
                async with http.get(url) as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    uvloop.run(main())
