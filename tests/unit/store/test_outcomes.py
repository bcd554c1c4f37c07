import asyncio

import pytest
from prometheus_client import CollectorRegistry, Counter

from worker.store.connection import StoreConnection, connect
from worker.store.outcomes import Outcomes


@pytest.fixture
async def connection(redis_url):
    """A connection to the test's own database."""
    failures = Counter("failures", "x", registry=CollectorRegistry())
    made = StoreConnection(
        connect(redis_url, 2.0), hold=5.0, instance="test", failures=failures, on_change=lambda _: None
    )
    watching = asyncio.create_task(made.watch())
    while not made.up:
        await asyncio.sleep(0.01)
    yield made
    watching.cancel()
    await made.close()


@pytest.fixture
def outcomes(connection):
    """Outcomes that live for a minute."""
    return Outcomes(connection, 60)


async def test_what_is_stored_first_stays(outcomes):
    """The second outcome of a job is answered with the first."""
    assert await outcomes.save([("a", b"first"), ("b", b"other")]) == [b"first", b"other"]
    assert await outcomes.save([("a", b"second"), ("c", b"new")]) == [b"first", b"new"]
    assert await outcomes.lookup(["a", "b", "c", "d"]) == {"a": b"first", "b": b"other", "c": b"new"}


async def test_of_two_outcomes_in_one_save_the_first_counts(outcomes):
    """The same job twice in one batch has one outcome."""
    assert await outcomes.save([("a", b"1"), ("a", b"2"), ("a", b"3")]) == [b"1", b"1", b"1"]
    assert await outcomes.lookup(["a"]) == {"a": b"1"}


async def test_of_two_workers_one_is_heard(outcomes, connection):
    """Whoever comes second gets what the first stored, whichever that was."""
    other = Outcomes(connection, 60)
    saves = await asyncio.gather(*(o.save([("a", bytes([i]))]) for i, o in enumerate([outcomes, other] * 10)))
    assert len({answer for (answer,) in saves}) == 1


async def test_saving_again_what_is_stored_changes_nothing(outcomes):
    """A save whose answer was lost can be repeated."""
    await outcomes.save([("a", b"x")])
    assert await outcomes.save([("a", b"x")]) == [b"x"]


async def test_a_script_that_redis_forgot_is_loaded_again(outcomes, connection):
    """A restart, or an operator, may empty Redis's scripts at any time."""
    await outcomes.save([("a", b"x")])
    await connection.client.script_flush()
    assert await outcomes.save([("a", b"y"), ("b", b"y")]) == [b"x", b"y"]


async def test_outcomes_have_their_key_and_their_time(outcomes, connection):
    """`heimdall:result:{job_id}` is a promise to clients; a repeat does not prolong it."""
    await outcomes.save([("a", b"x")])
    assert await connection.client.get("heimdall:result:a") == b"x"
    assert 0 < await connection.client.ttl("heimdall:result:a") <= 60
    await connection.client.expire("heimdall:result:a", 5)
    await outcomes.save([("a", b"y")])
    assert await connection.client.ttl("heimdall:result:a") <= 5


async def test_nothing_is_asked_for_nothing(outcomes):
    """Empty batches cost no round trip and are no error."""
    assert await outcomes.lookup([]) == {}
    assert await outcomes.save([]) == []
    await outcomes.clear_suspects([])


async def test_an_empty_outcome_is_found(outcomes):
    """What is stored is what counts, not whether it is empty."""
    await outcomes.save([("a", b"")])
    assert await outcomes.lookup(["a"]) == {"a": b""}
    assert await outcomes.save([("a", b"x")]) == [b""]


async def test_starts_of_suspects_are_counted_until_they_are_settled(outcomes, connection):
    """Each solo start counts; settling forgets; the count does not outlive its use."""
    assert [await outcomes.count_suspect("a") for _ in range(3)] == [1, 2, 3]
    assert await outcomes.count_suspect("b") == 1
    assert 0 < await connection.client.ttl("heimdall:suspect:a") <= 60
    await outcomes.clear_suspects(["a", "never"])
    assert await outcomes.count_suspect("a") == 1
    assert await outcomes.count_suspect("b") == 2
    await outcomes.forgive_suspects(["b"])
    assert await outcomes.count_suspect("b") == 2
