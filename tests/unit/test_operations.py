import asyncio

import pytest

from worker import operations
from worker.amqp.flow import Flow
from worker.errors import ModelRejected
from worker.operations import Operations


class Session:
    """A session, consuming or not."""

    def __init__(self):
        self.idle = asyncio.Event()


class Claims:
    """Claims, redeemed or not."""

    def __init__(self):
        self.redeemed = asyncio.Event()
        self.redeemed.set()

    async def drain(self):
        """As claims do."""
        await self.redeemed.wait()


class Parts:
    """Operations and the parts they act on."""

    def __init__(self, jitter=0.0):
        self.flow = Flow()
        self.session = Session()
        self.connected = True
        self.held = asyncio.Event()
        self.synced = []
        self.error = None
        self.paused_by = None
        self.claims = Claims()
        self.operations = Operations(self.flow, self, self, self.claims, self, jitter)

    async def sync(self, expect=None):
        """As the swapper does, with the fleet's tag."""
        self.synced.append(expect)
        if self.paused_by is None:
            self.flow.clear("fleet_paused")
        else:
            self.flow.stop("fleet_paused")
        if self.error is not None:
            raise self.error
        return "production 7"

    async def drain(self):
        """As the batcher does."""
        await self.held.wait()


@pytest.fixture
async def parts():
    """Parts of their own."""
    return Parts()


async def test_a_worker_that_takes_jobs_serves(parts):
    """No obstacle, and from then on it was ready once."""
    assert not parts.operations.started
    assert parts.operations.consuming
    assert parts.operations.state() == "serving"
    parts.flow.stop("store")
    assert parts.operations.obstacles() == ["Redis does not take writes"]
    assert parts.operations.started


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("model", "no valid model"),
        ("store", "Redis does not take writes"),
        ("draining", "draining"),
        ("paused", "paused by an operator"),
        ("fleet_paused", "the fleet is paused by an operator"),
    ],
)
async def test_every_reason_is_said_in_words(parts, reason, text):
    """An operator reads them in replies and at the health page."""
    parts.flow.stop(reason)
    assert parts.operations.state() == text
    assert not parts.operations.started


async def test_several_obstacles_are_all_named(parts):
    """Without a connection as well."""
    parts.flow.stop("paused")
    parts.flow.stop("model")
    parts.connected = False
    assert parts.operations.state() == "no valid model; paused by an operator; no connection to RabbitMQ"


@pytest.mark.parametrize("session", [True, False])
async def test_a_consumer_that_is_not_there_yet_is_an_obstacle(parts, session):
    """The moment between connecting and consuming."""
    if session:
        parts.session.idle.set()
    else:
        parts.session = None
    assert not parts.operations.consuming
    assert parts.operations.state() == "about to consume"


async def test_a_reload_hands_on(parts):
    """The expectation goes down, the answer or the refusal comes back."""
    assert await parts.operations.reload("7") == "production 7"
    assert parts.synced == ["7"]
    parts.error = ModelRejected("golden[0]")
    with pytest.raises(ModelRejected, match="golden"):
        await parts.operations.reload(None)


async def test_a_fleet_spreads_its_reloads(monkeypatch):
    """By a delay between none and the longest that is set."""
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    monkeypatch.setattr(operations.asyncio, "sleep", sleep)
    parts = Parts(jitter=2.0)
    for _ in range(100):
        await parts.operations.reload(None)
    assert all(0 <= seconds <= 2 for seconds in slept)
    assert len(set(slept)) > 90


async def test_one_worker_is_paused_and_resumed_by_itself(parts):
    """The registry is not asked."""
    assert await parts.operations.pause(fleet=False) == "paused by an operator"
    assert parts.flow.reasons == ("paused",)
    assert await parts.operations.resume(fleet=False) == "serving"
    assert parts.synced == []


async def test_the_fleet_is_paused_by_its_tag(parts):
    """A command without the tag pauses nobody; with it, it does, and resuming asks again."""
    assert await parts.operations.pause(fleet=True) == "serving"
    parts.paused_by = "alice"
    assert await parts.operations.pause(fleet=True) == "the fleet is paused by an operator"
    assert await parts.operations.resume(fleet=True) == "the fleet is paused by an operator"
    parts.paused_by = None
    assert await parts.operations.resume(fleet=True) == "serving"
    assert len(parts.synced) == 4


async def test_a_worker_resumes_alone_only_itself(parts):
    """The fleet's pause stands above its own."""
    parts.paused_by = "alice"
    await parts.operations.pause(fleet=True)
    await parts.operations.pause(fleet=False)
    assert await parts.operations.resume(fleet=False) == "the fleet is paused by an operator"


async def test_a_drain_ends_when_nothing_is_held(parts):
    """First the consumer stops, then what is held is finished; no job is taken afterwards."""
    draining = asyncio.create_task(parts.operations.drain())
    await asyncio.sleep(0.01)
    assert parts.flow.reasons == ("paused",)
    parts.held.set()
    await asyncio.sleep(0.01)
    assert not draining.done()
    parts.session.idle.set()
    async with asyncio.timeout(5):
        assert await draining == "nothing is held"
    assert parts.flow.reasons == ("paused",)


async def test_a_drain_without_a_connection_waits_for_what_is_held(parts):
    """No session, no consumer: only the jobs in work count."""
    parts.session = None
    draining = asyncio.create_task(parts.operations.drain())
    await asyncio.sleep(0.01)
    assert not draining.done()
    parts.held.set()
    async with asyncio.timeout(5):
        await draining


async def test_a_drain_waits_for_claims_under_way(parts):
    """A job whose body is being fetched is held, though the batcher does not know it yet."""
    parts.session.idle.set()
    parts.held.set()
    parts.claims.redeemed.clear()
    draining = asyncio.create_task(parts.operations.drain())
    await asyncio.sleep(0.01)
    assert not draining.done()
    parts.claims.redeemed.set()
    async with asyncio.timeout(5):
        await draining
