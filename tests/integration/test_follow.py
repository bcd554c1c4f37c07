"""`heimdall follow`, `heimdall result` and the client's `follow` against a real broker and a real Redis."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any
from xml.etree import ElementTree as ET

import aio_pika
import orjson
import pytest
import redis as redis_client
from click.testing import Result
from typer.testing import CliRunner

from client import BrokerUnreachable, follow
from client.cli import app
from schemas.events import COMPLETE, EXCHANGE, FAILED
from schemas.problems import ErrorCode
from tests.unit.client.fakes import FIX, Proxy, batch_result, eventually, problem, result

Run = Callable[..., Awaitable[Result]]
NOW = "2026-01-01T00:00:00Z"


class Teller:
    """Tells events as workers do."""

    def __init__(self, exchange: aio_pika.abc.AbstractExchange) -> None:
        self._exchange = exchange

    async def tell(self, key: str, data: Any) -> None:
        """Publish an event; the followers that are bound get it."""
        body = {"event": key, "timestamp": NOW, "data": data}
        await self._exchange.publish(aio_pika.Message(orjson.dumps(body)), key)

    async def locate(self, job_id: str, **changes: Any) -> None:
        """A fix."""
        await self.tell(COMPLETE, result(job_id, **changes).model_dump(mode="json"))

    async def fail(self, job_id: str, **changes: Any) -> None:
        """A failure."""
        await self.tell(FAILED, problem(job_id, ErrorCode.NON_FINITE_IQ).model_dump(mode="json") | changes)


@pytest.fixture
async def teller(amqp_url: str) -> AsyncIterator[Teller]:
    """The exchange of events, and a way to tell some."""
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        yield Teller(await channel.declare_exchange(EXCHANGE, "topic", durable=True))


@pytest.fixture
def heimdall(amqp_url: str, redis_url: str) -> Run:
    """Run a command beside the test's loop."""

    async def run(*arguments: object) -> Result:
        environment = {"HEIMDALL_AMQP_URL": amqp_url, "HEIMDALL_REDIS_URL": redis_url, "COLUMNS": "200"}
        return await asyncio.to_thread(CliRunner().invoke, app, list(map(str, arguments)), env=environment)

    return run


async def told_until(done: asyncio.Task[Result], tell: Callable[[], Awaitable[None]]) -> Result:
    """Tell again and again, as nobody knows when a command begins to listen; its result."""
    while not done.done():
        await tell()
        await asyncio.sleep(0.1)
    return done.result()


async def followed(heimdall: Run, tell: Callable[[], Awaitable[None]], *arguments: object) -> Result:
    """What `heimdall follow` prints while events are told."""
    return await told_until(asyncio.create_task(heimdall("follow", "--timeout", 60, *arguments)), tell)


async def test_rows_for_people(heimdall: Run, teller: Teller) -> None:
    """Position, largest ellipse, age, model and job in a row under a header; failures on standard error."""

    async def tell() -> None:
        await teller.locate("job-1")
        await teller.fail("job-2")

    ran = await followed(heimdall, tell, "--count", 2)
    assert ran.exit_code == 1
    head, row, *_ = ran.stdout.splitlines()
    assert head.split() == ["captured", "session", "latitude", "longitude", "ellipse", "age", "model", "job"]
    for shown in ("2026-01-09T15:00:02.123", "45.044000", "7.672000", "95% 2.41 km x 850 m @31°", "877 ms", "job-1"):
        assert shown in row
    assert "job-2: The IQ holds NaN or infinity (non_finite_iq)" in ran.stderr
    assert "followed: fixes=1 failures=1" in ran.stderr


async def test_geojson_text_sequence(heimdall: Run, teller: Teller) -> None:
    """Standard output is RFC 8142 to the byte: separator, text, line feed; features as the worker made them."""
    ran = await followed(heimdall, lambda: teller.locate("job-1"), "--count", 3, "--geojson-seq")
    assert ran.exit_code == 0, ran.stderr
    begin, *texts = ran.stdout_bytes.split(b"\x1e")
    assert begin == b""
    assert [text.endswith(b"\n") for text in texts] == [True] * 3
    assert [json.loads(text) for text in texts] == FIX["geojson"]["features"] * 3


async def test_cursor_on_target(heimdall: Run, teller: Teller) -> None:
    """Each line is an event of its own that says where, how sure, and of which session."""
    ran = await followed(heimdall, lambda: teller.locate("job-1", session_id="a<b"), "--count", 2, "--cot")
    assert ran.exit_code == 0, ran.stderr
    events = [ET.fromstring(line) for line in ran.stdout.splitlines()]
    assert [event.get("uid") for event in events] == ["heimdall.a<b"] * 2
    point = events[0].find("point")
    assert point is not None
    assert (float(point.attrib["lat"]), float(point.attrib["lon"])) == (45.044, 7.672)


async def test_one_session_only(heimdall: Run, teller: Teller) -> None:
    """`--session` shows that session's fixes and failures, and nothing else."""

    async def tell() -> None:
        await teller.locate("other-1", session_id="other")
        await teller.fail("other-2", session_id="other")
        await teller.fail("none")
        await teller.locate("mine-1", session_id="mine")
        await teller.fail("mine-2", session_id="mine")

    ran = await followed(heimdall, tell, "--session", "mine", "--count", 2, "--json")
    jobs = [orjson.loads(line)["data"]["job_id"] for line in ran.stdout.splitlines()]
    assert (ran.exit_code, sorted(jobs)) == (1, ["mine-1", "mine-2"])


async def test_too_few_in_time(heimdall: Run, teller: Teller) -> None:
    """`--count` not reached within `--timeout` is exit code 3, and how many there were is said."""
    ran = await heimdall("follow", "--count", 5, "--timeout", 0.5)
    assert ran.exit_code == 3
    assert "0 of 5 results within 0.5 s" in ran.stderr


async def test_samples_of_a_batch_job(amqp_url: str, teller: Teller) -> None:
    """An event of one sample of a batch job is read with its index."""
    batch = batch_result("batch", 2).model_dump(mode="json")
    sample = {name: value for name, value in batch.items() if name not in ("predictions", "timings_ms")}
    heard: list[Any] = []
    ready = asyncio.Event()
    async with aclosing(follow(amqp_url, on_ready=ready.set)) as events:
        first = asyncio.create_task(anext(events))
        await ready.wait()
        await teller.tell(COMPLETE, sample | batch["predictions"][0])
        heard.append(await first)
    assert heard[0].data.sample == 0


async def test_a_lost_connection_is_made_anew(amqp_url: str, teller: Teller) -> None:
    """Following goes on after a cut, and what is no event of this wire is left out."""
    proxy, ready = Proxy(amqp_url), asyncio.Event()
    heard: list[str] = []

    async def hear(url: str) -> None:
        async with aclosing(follow(url, on_ready=ready.set)) as events:
            async for event in events:
                heard.append(event.data.job_id or "")  # noqa: PERF401 - it never ends

    async with proxy.running() as url:
        hearing = asyncio.create_task(hear(url))
        for number in (1, 2):
            await asyncio.wait_for(ready.wait(), 20)
            ready.clear()
            await teller.tell(COMPLETE, {"not": "ours"})
            await teller.locate(f"job-{number}")
            await eventually(lambda number=number: len(heard) == number, timeout=20)
            proxy.cut()
        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)
    assert heard == ["job-1", "job-2"]


async def test_without_the_exchange_it_says_so(amqp_url: str) -> None:
    """A broker that no worker ever used is told from one that is away."""
    async with aclosing(follow(amqp_url)) as events:
        with pytest.raises(BrokerUnreachable, match=r"heimdall\.events"):
            await anext(events)


async def test_outcomes_are_looked_up(heimdall: Run, redis_url: str) -> None:
    """Results, batch results and problems as `heimdall locate` shows them; the exit code is the worst."""
    with redis_client.Redis.from_url(redis_url) as store:
        for outcome in (result("one"), batch_result("many", 2), problem("bad", ErrorCode.TOO_FEW_SAMPLES)):
            store.set(f"heimdall:result:{outcome.job_id}", outcome.model_dump_json())
        store.set("heimdall:result:broken", "{}")
        store.set("heimdall:result:swapped", result("other").model_dump_json())
    ran = await heimdall("result", "one", "many")
    assert ran.exit_code == 0, ran.stderr
    assert "45.044000° N 7.672000° E" in ran.stdout
    assert "many[1]: The IQ holds NaN" in ran.stdout
    ran = await heimdall("result", "one", "bad", "--json")
    assert ran.exit_code == 1
    assert [orjson.loads(line)["job_id"] for line in ran.stdout.splitlines()] == ["one", "bad"]
    assert "Record longer" in ran.stderr
    ran = await heimdall("result", *(f"none-{number}" for number in range(150)))
    assert ran.exit_code == 3
    assert ran.stderr.count("no outcome is stored") == 150
    for job, code, said in (("none", 3, "no outcome is stored"), ("broken", 1, "no outcome"), ("swapped", 1, "other")):
        ran = await heimdall("result", job)
        assert (ran.exit_code, ran.stdout) == (code, "")
        assert said in ran.stderr
    ran = await heimdall("result", "one", "--geojson")
    assert orjson.loads(ran.stdout)["type"] == "FeatureCollection"


async def test_an_outcome_is_waited_for(heimdall: Run, redis_url: str) -> None:
    """`--wait` returns when the outcome comes."""
    asking = asyncio.create_task(heimdall("result", "late", "--wait", 30))
    await asyncio.sleep(0.5)
    assert not asking.done()
    with redis_client.Redis.from_url(redis_url) as store:
        store.set("heimdall:result:late", result("late").model_dump_json())
    assert (await asking).exit_code == 0


async def test_a_redis_that_is_away(heimdall: Run) -> None:
    """Exit code 3, the URL without its password."""
    ran = await heimdall("result", "one", "--redis", "redis://:s3cret@127.0.0.1:1/0")
    assert ran.exit_code == 3
    assert "redis://127.0.0.1:1/0" in ran.stderr
    assert "s3cret" not in ran.output
