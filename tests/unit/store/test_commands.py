import asyncio

import pytest
from redis.exceptions import ResponseError

from worker.store.commands import Commands
from worker.store.connection import FAILURES, connect


@pytest.fixture
async def client(redis_url):
    """A client of the test's own database."""
    made = connect(redis_url, 2.0)
    yield made
    await made.aclose()


@pytest.fixture
async def commands(client):
    """Commands to the same database."""
    made = Commands(client)
    await made.execute("CLIENT", "SETNAME", "heimdall-test-commands")
    yield made
    await made.close()


async def named(client):
    """Identifiers of the connections that the fixture's first one gave its name."""
    return [int(entry["id"]) for entry in await client.client_list() if entry["name"] == "heimdall-test-commands"]


async def test_answers_come_as_redis_gave_them(commands):
    """Bytes, numbers, lists and nothing; what is sent may be text, bytes or a number."""
    assert await commands.execute("SET", "n", 5) == b"OK"
    assert await commands.execute("INCR", b"n") == 6
    assert await commands.execute("MGET", "n", "absent") == [b"6", None]


async def test_one_connection_serves_what_comes_one_after_another(client, commands):
    """A connection is opened once, and as many as commands are under way at once."""
    own = await commands.execute("CLIENT", "ID")
    for _ in range(3):
        assert await commands.execute("CLIENT", "ID") == own
    together = await asyncio.gather(*(commands.execute("CLIENT", "ID") for _ in range(3)))
    assert len(set(together)) == 3
    assert await commands.execute("CLIENT", "ID") in together
    await commands.close()
    assert await named(client) == []


async def test_a_connection_that_redis_closed_is_opened_again(client, commands):
    """An idle connection may be closed by the server's own timeout: the next command does not fail of it."""
    (closed,) = await named(client)
    await client.client_kill_filter(_id=str(closed))
    await asyncio.sleep(0.1)  # The event loop hears of it.
    assert await commands.execute("CLIENT", "ID") != closed


async def test_a_refused_command_leaves_the_connection_as_it_was(commands):
    """An error is raised; one within a list is an element of it."""
    own = await commands.execute("CLIENT", "ID")
    await commands.execute("RPUSH", "list", "x")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await commands.execute("GET", "list")
    script = "return {redis.pcall('GET', KEYS[1]), 1}"
    refused, one = await commands.execute("EVAL", script, 1, "list")
    assert isinstance(refused, ResponseError)
    assert one == 1
    assert await commands.execute("CLIENT", "ID") == own


async def test_the_answer_to_a_cancelled_command_is_read_by_nobody(commands):
    """Its connection is closed, so that no later command takes that answer for its own."""
    waiting = asyncio.create_task(commands.execute("BLPOP", "absent", 1))
    await asyncio.sleep(0.05)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await commands.execute("ECHO", "mine") == b"mine"


async def test_nobody_listens():
    """A Redis that is not there is a failure like any other, each time anew."""
    client = connect("redis://127.0.0.1:1/0", 0.5)
    commands = Commands(client)
    for _ in range(2):
        with pytest.raises(FAILURES):
            await commands.execute("PING")
    await commands.close()
    await client.aclose()
