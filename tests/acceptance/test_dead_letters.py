"""A thousand dead letters of five causes: listed, explained, and replayed after the fix; none is lost."""

import asyncio
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from typer.testing import CliRunner

from tests.support.models import metadata, tone, write_model
from tests.support.station import PATIENCE_S, Publisher, Station, command
from worker.commands.dead import app

EACH = 200
CAUSES = ("inference_failed", "sample_rate_mismatch", "too_few_samples", "receiver_mismatch", "too_large")
SMALL_BODIES = "16384"


def bad_job(cause: str) -> dict[str, Any]:
    """A job that version 1, with small bodies only, cannot locate; version 2 can."""
    if cause == "inference_failed":
        return {"body": tone(1, amplitude=1e5)}
    if cause == "sample_rate_mismatch":
        return {"sigmf": metadata(1, **{"core:sample_rate": 50e3})}
    if cause == "too_few_samples":
        return {"body": tone(1, n=300)}
    if cause == "too_large":
        return {"body": tone(1, n=4096)}
    far = metadata(1)
    far["global"]["heimdall:receivers"][0]["geolocation"]["coordinates"] = [-100.0, 40.0]
    return {"sigmf": far}


@asynccontextmanager
async def sender(amqp_url: str) -> AsyncIterator[Publisher]:
    """A publisher that leaves the dead letters where they are."""
    connection = await aio_pika.connect(amqp_url)
    async with connection:
        it = Publisher(connection, await connection.channel(on_return_raises=True))
        replies = await it.channel.declare_queue(exclusive=True)
        it.reply_queue = replies.name
        await replies.consume(it._on_reply, no_ack=True)
        yield it


def dead(station: Station, *arguments: str, code: int = 0) -> dict[str, Any]:
    """Run `heimdall dead`; its JSON."""
    done = CliRunner().invoke(app, options(station, *arguments))
    assert done.exit_code == code, done.output[-2000:]
    return json.loads(done.stdout)


def options(station: Station, *arguments: str) -> list[str]:
    """With those that lead to this world."""
    where = ["--url", station.amqp_url, "--json"]
    where += ["--redis-url", station.redis_url] if arguments[0] == "replay" else []
    where += ["--tracking-uri", station.tracking_uri] if arguments[0] == "explain" else []
    return [*arguments, *where]


@pytest.fixture
def mended(own_station: Station, tmp_path: Path) -> str:
    """A version for which no job of the five causes is bad; registered, and not serving yet."""
    wide = {"sample_rate": None, "min_samples": 256, "area": [-179.0, -80.0, 179.0, 80.0]}
    model = write_model(tmp_path / "mended.onnx", poison_above_db=1e6, **wide)
    return own_station.registry.register(model, alias=None)


async def fail_a_thousand(jobs: Publisher) -> dict[str, str]:
    """Publish bad jobs, and good ones among them so that no batch blames the model; cause by job id."""
    await command(jobs, command="pause")
    causes = {f"{cause}-{number}": cause for number in range(EACH) for cause in CAUSES}
    sent = []
    for job_id, cause in causes.items():
        sent.append(jobs.publish(job_id=job_id, **bad_job(cause)))
        if cause in {"inference_failed", "too_large"}:
            sent.append(jobs.publish(job_id=f"good-{len(sent)}"))
    correlations = await asyncio.gather(*sent)
    await command(jobs, command="resume")
    await jobs.until(lambda: all(jobs.replies[c] for c in correlations))
    return causes


async def test_a_thousand_dead_letters_of_five_causes(own_station: Station, mended: str) -> None:
    """All are listed, causes are explained, and a replay after the fix, killed half-way and repeated, locates each."""
    world = own_station
    first = world.worker(HEIMDALL_MAX_BODY_BYTES=SMALL_BODIES, HEIMDALL_EVENTS_ENABLED="false")
    async with sender(world.amqp_url) as jobs:
        causes = await fail_a_thousand(jobs)
        await check_list(world, causes)
        await check_explanations(world)
        world.registry._client().set_registered_model_alias("heimdall", "production", mended)
        await asyncio.to_thread(first.close)
        world.worker(HEIMDALL_EVENTS_ENABLED="false")
        await asyncio.to_thread(kill_a_replay, world)
        done = await asyncio.to_thread(dead, world, "replay", "--all")
        assert done["counts"]["kept"] == 0
        await until_located(world, causes)
        async with asyncio.timeout(PATIENCE_S):  # The count of a quorum queue follows acknowledgements a moment later.
            while await jobs.queue_counts("heimdall.dead"):
                await asyncio.sleep(0.05)
        again = await asyncio.to_thread(dead, world, "replay", "--all", code=1)
        assert sum(again["counts"].values()) == 0


async def check_list(world: Station, causes: dict[str, str]) -> None:
    """Every letter is there, oldest first, and reading changes nothing."""
    listed = await asyncio.to_thread(dead, world, "list")
    assert {letter["job_id"]: letter["code"] for letter in listed["letters"]} == causes
    assert listed["counts"] == dict.fromkeys(CAUSES, EACH)
    some = await asyncio.to_thread(dead, world, "list", "--code", "too_large")
    assert Counter(letter["code"] for letter in some["letters"]) == {"too_large": EACH}
    again = await asyncio.to_thread(dead, world, "list")
    assert [letter["job_id"] for letter in again["letters"]] == [letter["job_id"] for letter in listed["letters"]]


async def check_explanations(world: Station) -> None:
    """A cause that lies in the job and the model is found again; one that lay in the worker's settings is not."""
    steps = {}
    for cause in ("inference_failed", "too_large"):
        told = await asyncio.to_thread(dead, world, "explain", f"{cause}-7")
        steps[cause] = (told["steps"][-1]["step"], told["code_now"], told["reproduced"])
    assert steps == {
        "inference_failed": ("inference", "inference_failed", True),
        "too_large": ("fix", None, False),
    }


def kill_a_replay(world: Station) -> None:
    """Begin a replay, and kill it once some jobs have been located and others are still letters."""
    command = [sys.executable, "-m", "worker.commands.dead", *options(world, "replay", "--all")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as replay:
        while replay.poll() is None and not located(world, CAUSES[0]):
            pass
        with suppress(ProcessLookupError):
            replay.send_signal(signal.SIGKILL)


def located(world: Station, cause: str) -> bool:
    """Whether the first job of a cause has a result."""
    return b'"position"' in (world.redis.get(f"heimdall:result:{cause}-0") or b"")


async def until_located(world: Station, causes: dict[str, str]) -> None:
    """Wait until the store holds a result for every job."""
    keys = [f"heimdall:result:{job_id}" for job_id in causes]
    async with asyncio.timeout(PATIENCE_S):
        while not all(b'"position"' in (stored or b"") for stored in world.redis.mget(keys)):
            await asyncio.sleep(0.1)
