import asyncio

import pytest
from prometheus_client import CollectorRegistry, Counter
from redis import Redis

from deploy.local import redis
from worker.errors import Unavailable
from worker.store.connection import StoreConnection, connect

PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def server():
    """A Redis that may be stopped."""
    with redis() as started:
        yield started


class Station:
    """A connection, what it was told, and the watch over it."""

    def __init__(self, url, *, hold=PATIENCE_S, timeout=0.2):
        self.changes = []
        self.changed = asyncio.Event()
        self.registry = CollectorRegistry()
        self.connection = StoreConnection(
            connect(url, timeout),
            hold=hold,
            instance="test",
            failures=Counter("failures", "x", registry=self.registry),
            on_change=self._note,
        )
        self.watching = asyncio.create_task(self.connection.watch())

    def _note(self, up):
        self.changes.append(up)
        self.changed.set()

    async def until(self, *changes):
        """Wait until it was told all of this."""
        async with asyncio.timeout(PATIENCE_S):
            while self.changes != list(changes):
                self.changed.clear()
                await self.changed.wait()

    @property
    def failures(self):
        """Calls that failed."""
        return self.registry.get_sample_value("failures_total")

    async def set(self, value):
        """A call that writes."""
        return await self.connection.insist(lambda: self.connection.client.set("key", value))

    async def get(self):
        """A call that reads."""
        return await self.connection.insist(lambda: self.connection.client.get("key"))


@pytest.fixture
async def station(server):
    """A station on the server, which is up before and after."""
    made = Station(server.url)
    await made.until(True)
    yield made
    made.watching.cancel()
    await asyncio.gather(made.watching, return_exceptions=True)
    await made.connection.close()


@pytest.mark.parametrize(("away", "back"), [("pause", "resume"), ("stop", "start"), ("kill", "start")])
async def test_a_call_insists_until_redis_is_back(server, station, away, back):
    """A call that began while Redis is away ends when it is back; both changes are told, once."""
    await station.set(b"before")
    assert station.connection.up
    getattr(server, away)()
    try:
        calling = asyncio.create_task(station.set(b"after"))
        await station.until(True, False)
        assert not station.connection.up
        assert not calling.done()
    finally:
        await asyncio.to_thread(getattr(server, back))
    async with asyncio.timeout(PATIENCE_S):
        assert await calling
    await station.until(True, False, True)
    assert station.connection.up
    assert station.failures >= 1
    assert await station.get() == b"after"


async def test_an_attempt_is_none_while_redis_is_away(server, station):
    """What may be missing is asked once: it fails quietly, and is not asked at all while Redis is known to be away."""
    client = station.connection.client
    assert await station.connection.attempt(client.ping)
    assert await station.connection.memory_bytes() > 0
    server.pause()
    try:
        assert await station.connection.attempt(client.ping) is None
        assert station.failures == 1
        assert station.changes == [True], "an attempt says nothing about jobs"
        calling = asyncio.create_task(station.set(b"x"))
        await station.until(True, False)
        asked = []

        async def ask():
            asked.append(1)

        assert await station.connection.attempt(ask) is None
        assert asked == []
        assert await station.connection.memory_bytes() == 0
    finally:
        server.resume()
    await asyncio.wait_for(calling, PATIENCE_S)


async def test_a_call_gives_up_after_the_hold(server):
    """Jobs are held for so long and no longer; the text says for how long."""
    made = Station(server.url, hold=0.5, timeout=0.1)
    await made.until(True)
    server.pause()
    try:
        with pytest.raises(Unavailable, match=r"for 0\.5 s"):
            await made.set(b"x")
    finally:
        server.resume()
    await made.until(True, False, True)
    made.watching.cancel()
    await asyncio.gather(made.watching, return_exceptions=True)
    await made.connection.close()


async def test_connections_that_redis_closed_are_no_failure(server, station):
    """Redis closes what is idle (`timeout`), and an operator may: no job is held and nothing is reported for that."""
    asking = [lambda: station.connection.client.get("key"), lambda: station.connection.commands.execute("GET", "key")]
    for ask in asking:
        await station.connection.insist(ask)
    with Redis.from_url(server.url) as operator:
        operator.client_kill_filter(_type="normal", skipme=True)
    await asyncio.sleep(0.1)  # The event loop hears of it.
    for ask in asking:
        await station.connection.insist(ask)
    assert station.failures == 0
    assert station.changes == [True]


async def test_another_callers_answer_is_never_read(server, station):
    """A cancelled call leaves no answer behind for the next one."""
    for i in range(50):
        await station.connection.client.set(f"k{i}", f"v{i}")
    client = station.connection.client

    def reading(i):
        return asyncio.create_task(station.connection.insist(lambda: client.get(f"k{i}")))

    cancelled = [reading(i) for i in range(50)]
    await asyncio.sleep(0)
    for task in cancelled:
        task.cancel()
    answers = await asyncio.gather(*(reading(i) for i in range(50)))
    assert answers == [f"v{i}".encode() for i in range(50)]
    await asyncio.gather(*cancelled, return_exceptions=True)


@pytest.mark.parametrize("how", ["insist", "attempt"])
async def test_a_call_that_is_cancelled_still_ends(station, how):
    """A command under way is never torn: its answer is read by the call that asked, even when nobody waits for it."""
    started, gate, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def call():
        started.set()
        await gate.wait()
        ended.set()

    asking = asyncio.create_task(getattr(station.connection, how)(call))
    await asyncio.wait_for(started.wait(), PATIENCE_S)
    asking.cancel()
    assert (await asyncio.gather(asking, return_exceptions=True))[0].__class__ is asyncio.CancelledError
    gate.set()
    await asyncio.wait_for(ended.wait(), PATIENCE_S)


async def test_a_bug_in_a_call_is_not_repeated(station):
    """Only what Redis and the network raise is tried again."""
    calls = []

    async def broken():
        calls.append(1)
        raise KeyError("bug")

    with pytest.raises(KeyError):
        await station.connection.insist(broken)
    with pytest.raises(KeyError):
        await station.connection.attempt(broken)
    assert len(calls) == 2
    assert station.connection.up


async def test_a_redis_that_was_never_up_is_not_counted_on(server):
    """Before a first write has succeeded Redis is away; a call that fails says so, and success is told once."""
    server.pause()
    made = Station(server.url, hold=0.5, timeout=0.1)
    try:
        assert not made.connection.up
        with pytest.raises(Unavailable):
            await made.set(b"x")
        assert True not in made.changes
        assert not made.connection.up
    finally:
        server.resume()
    async with asyncio.timeout(PATIENCE_S):
        while True not in made.changes:
            made.changed.clear()
            await made.changed.wait()
    assert made.connection.up
    made.watching.cancel()
    await asyncio.gather(made.watching, return_exceptions=True)
    await made.connection.close()


def test_the_client_repeats_nothing_by_itself():
    """Retries are the connection's own business: the library's are off."""
    client = connect("redis://127.0.0.1:1/0", 1.0)
    arguments = client.connection_pool.connection_kwargs
    assert arguments["retry_on_error"] == []
    assert arguments["retry"] is None
    assert (arguments["socket_timeout"], arguments["socket_connect_timeout"]) == (1.0, 1.0)
