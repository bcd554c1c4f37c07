"""`heimdall dead` on a real broker and Redis, without a worker: what it takes, what it leaves, what it publishes."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import aio_pika
import pytest
import redis as redis_client
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from blake3 import blake3
from typer.testing import CliRunner, Result

from deploy.local import Broker
from tests.support.models import metadata, tone
from tests.support.stack import EVERYTHING, management
from worker.amqp.topology import Topology
from worker.commands.dead import app
from worker.commands.dead_actions import replay
from worker.commands.dead_selection import Selection
from worker.input_digest import input_digest

QUEUE = "heimdall.inference"
DEAD = "heimdall.dead"
BODY = tone(1)
SIGMF = json.dumps(metadata(1))


class World:
    """A virtual host with the topology and no worker."""

    def __init__(self, amqp_url: str, redis_url: str, channel: AbstractChannel) -> None:
        self.amqp_url, self.redis_url, self.channel = amqp_url, redis_url, channel
        self.redis = redis_client.Redis.from_url(redis_url)

    async def run(self, *arguments: str, url: str | None = None, say: str | None = None) -> Result:
        """Run the command."""
        options = [*arguments, "--url", url or self.amqp_url]
        options += ["--redis-url", self.redis_url] if arguments[0] == "replay" else []
        return await asyncio.to_thread(CliRunner().invoke, app, options, input=say)

    async def json(self, *arguments: str, code: int = 0, **options: Any) -> dict[str, Any]:
        """Its JSON."""
        done = await self.run(*arguments, "--json", **options)
        assert done.exit_code == code, done.output
        return json.loads(done.stdout)

    async def die(self, job_id: str, *, body: bytes = BODY, publisher: str | None = None, **headers: Any) -> None:
        """Put a dead letter where a worker would put it."""
        said = {"heimdall-job-id": job_id, "heimdall-code": "inference_failed", "heimdall-reason": "it failed"}
        said |= {"sigmf": SIGMF, "deadline_ms": 1, "session_id": "s"} | headers
        said |= {"heimdall-publisher": publisher} if publisher else {}
        message = aio_pika.Message(body, headers=said, content_type="application/octet-stream", correlation_id="c1")
        await self.channel.default_exchange.publish(message, DEAD)

    def store(self, job_id: str, *, body: bytes = BODY, publisher: str | None = None, **fields: Any) -> bytes:
        """Store an outcome, as a worker would for this input."""
        digest = input_digest(publisher, "application/octet-stream", SIGMF, blake3(body).digest())
        stored = json.dumps({"job_id": job_id, "input_digest": digest} | fields).encode()
        self.redis.set(f"heimdall:result:{job_id}", stored, ex=1000)
        return stored

    def stored(self, job_id: str) -> bytes | None:
        """What is stored."""
        return self.redis.get(f"heimdall:result:{job_id}")

    async def take(self, queue: str = QUEUE) -> AbstractIncomingMessage:
        """The next message of a queue."""
        found = await (await self.channel.get_queue(queue)).get(timeout=10)
        await found.ack()
        return found

    async def count(self, queue: str = DEAD) -> int:
        """Messages ready."""
        return (await self.channel.declare_queue(queue, passive=True)).declaration_result.message_count or 0

    async def until_empty(self) -> None:
        """Wait until no letter is ready: a quorum queue's count follows acknowledgements a moment later."""
        async with asyncio.timeout(10):
            while await self.count():
                await asyncio.sleep(0.05)

    async def listed(self) -> list[str]:
        """Ids of the letters, oldest first."""
        return [letter["job_id"] for letter in (await self.json("list"))["letters"]]


@pytest.fixture
async def world(amqp_url: str, redis_url: str) -> AsyncIterator[World]:
    """The topology that a worker declares."""
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        await Topology(QUEUE, "localize", 2**20, 2**28, declare=True).establish(channel, 15)
        yield World(amqp_url, redis_url, channel)


async def test_what_a_replay_publishes(world: World) -> None:
    """The same body, id and properties, and of the headers those that a worker reads; the stored error is gone."""
    await world.die("a", publisher="guest", confidence=0.5)
    world.store("a", publisher="guest", code="inference_failed")
    done = await world.json("replay", "a")
    assert done["counts"] == {"replayed": 1, "answered": 0, "kept": 0}
    job = await world.take()
    assert (job.message_id, job.user_id, job.correlation_id, job.reply_to) == ("a", "guest", "c1", None)
    assert (job.body, job.content_type, job.delivery_mode) == (BODY, "application/octet-stream", 2)
    assert {name: value for name, value in job.headers.items() if not name.startswith("x-")} == {
        "sigmf": SIGMF,
        "session_id": "s",
        "confidence": 0.5,
    }
    assert world.stored("a") is None
    await world.until_empty()


async def test_a_stored_result_is_never_deleted(world: World) -> None:
    """Of the same input it answers the letter, of another it keeps it; --new-id replays that under one other id."""
    await world.die("same")
    await world.die("other")
    same, other = world.store("same", position={}), world.store("other", body=b"another", position={})
    done = await world.json("replay", "--all", code=1)
    assert {letter["job_id"]: letter["fate"] for letter in done["letters"]} == {"same": "answered", "other": "kept"}
    assert "--new-id" in done["letters"][1]["why"]
    assert (world.stored("same"), world.stored("other")) == (same, other)
    assert await world.listed() == ["other"]
    ids = []
    for _ in range(2):
        done = await world.json("replay", "other", "--new-id")
        ids.append((await world.take()).message_id)
        assert done["letters"][0]["published_as"] == ids[-1]
        await world.die("other")
    assert ids[0] == ids[1]
    assert ids[0] != "other"
    assert world.stored("other") == other


async def test_an_error_of_other_input_is_left_alone(world: World) -> None:
    """The id was used for another body since: its outcome is not this letter's to delete."""
    await world.die("a")
    stored = world.store("a", body=b"another", code="malformed_iq")
    assert (await world.json("replay", "--all", code=1))["counts"]["kept"] == 1
    assert world.stored("a") == stored
    assert await world.listed() == ["a"]


async def test_a_full_queue_keeps_letters_and_their_errors(world: World) -> None:
    """What the broker refuses stays, stored error included; what it took is gone; together they are all."""
    sent = [f"j{n}" for n in range(200)]
    for job_id in sent:
        await world.die(job_id, body=bytes(20_000))
        world.store(job_id, body=bytes(20_000), code="too_large")
    done = await world.json("replay", "--all", code=1)
    kept = [letter["job_id"] for letter in done["letters"] if letter["fate"] == "kept"]
    assert 0 < len(kept) < len(sent)
    assert await world.listed() == kept
    assert await world.count(QUEUE) == len(sent) - len(kept)
    assert [job_id for job_id in sent if world.stored(job_id)] == kept
    assert 0 < world.redis.ttl(f"heimdall:result:{kept[0]}") <= 1000


@pytest.mark.parametrize(("tags", "code"), [("", 3), ("impersonator", 0)])
async def test_a_job_of_another_user(tags: str, code: int, world: World, broker: Broker) -> None:
    """It is published in its publisher's name by whom the broker lets; else it is kept, and the way out is said."""
    vhost = urlsplit(world.amqp_url).path
    user = f"op-{uuid4().hex[:8]}"
    management(broker, "PUT", f"/users/{user}", {"password": "secret", "tags": tags})
    management(broker, "PUT", f"/permissions{vhost}/{user}", EVERYTHING)
    where = urlsplit(world.amqp_url)
    url = where._replace(netloc=f"{user}:secret@{where.netloc.rsplit('@')[1]}").geturl()
    try:
        await world.die("a", publisher="guest")
        stored = world.store("a", publisher="guest", code="internal")
        done = await world.run("replay", "a", url=url)
        assert done.exit_code == code, done.output
        if code == 0:
            assert (await world.take()).user_id == "guest"
            return
        assert "impersonator" in done.stderr
        assert "secret" not in done.stderr
        assert world.stored("a") == stored
        assert await world.listed() == ["a"]
        await world.json("replay", "a", "--new-id", url=url)
        assert (await world.take()).user_id == user
    finally:
        management(broker, "DELETE", f"/users/{user}")


async def test_a_letter_that_the_broker_made(world: World) -> None:
    """It has no code of ours: the broker's reason stands in its place, and a replay keeps its reply address."""
    message = aio_pika.Message(
        BODY, message_id="late", content_type="application/octet-stream", headers={"sigmf": SIGMF}, expiration=0.001
    )
    message.reply_to = "amq.gen-somebody"
    await (await world.channel.get_exchange("heimdall.iq")).publish(message, "localize")
    async with asyncio.timeout(10):
        while not await world.count():
            await asyncio.sleep(0.05)
    (letter,) = (await world.json("list"))["letters"]
    assert (letter["code"], letter["job_id"], letter["routing_key"]) == ("broker:expired", "late", "localize")
    assert letter["failed_at"] is not None
    assert (await world.json("list", "--code", "broker:expired", "--since", "5m"))["counts"] == {"broker:expired": 1}
    await world.json("replay", "late")
    job = await world.take()
    assert (job.message_id, job.reply_to, job.expiration) == ("late", "amq.gen-somebody", None)


async def test_reading_and_dropping_keep_the_order(world: World) -> None:
    """However often letters are looked at; and what is dropped leaves the others as they were."""
    ids = [f"j{n}" for n in range(150)]
    for n, job_id in enumerate(ids):
        await world.die(job_id, **{"heimdall-code": ("internal", "malformed_iq")[n % 2]})
    for _ in range(3):
        assert await world.listed() == ids
    shown = await world.run("list", "--limit", "10")
    assert "140 more are meant" in shown.stdout
    assert await world.listed() == ids
    refused = await world.run("drop", "--code", "internal", say="n\n")
    assert refused.exit_code == 1
    assert await world.listed() == ids
    assert "75 dropped" in (await world.run("drop", "--code", "internal", say="y\n")).stdout
    assert await world.listed() == ids[1::2]
    assert len((await world.json("drop", "--all", "--yes"))["dropped"]) == 75
    await world.until_empty()


async def test_two_replays_at_once(world: World) -> None:
    """Each letter is replayed by one of them."""
    for n in range(100):
        await world.die(f"j{n}")
    manner = {"new_id": False, "routing_key": None}
    both = await asyncio.gather(
        *(replay(world.amqp_url, world.redis_url, Selection(), 1000, **manner) for _ in range(2))
    )
    assert sorted(done.job_id for replayed in both for done in replayed) == sorted(f"j{n}" for n in range(100))
    assert await world.count(QUEUE) == 100
    await world.until_empty()


async def test_showing_a_letter(world: World, tmp_path: Path) -> None:
    """Everything it says, and the job's body as a file."""
    await world.die("a", **{"heimdall-model-digest": "sha256:00", "heimdall-batch-mates": ["b", "c"]})
    text = (await world.run("show", "a", "--body", str(tmp_path / "body"))).stdout
    assert all(part in text for part in ("inference_failed", "it failed", "sha256:00", "b, c", "core:sample_rate"))
    assert (tmp_path / "body").read_bytes() == BODY
    assert (await world.run("show", "b")).exit_code == 1
    assert await world.listed() == ["a"]


WRONG = [
    (["replay"], "--all"),
    (["drop"], "--all"),
    (["drop", "a", "--all"], "not both"),
    (["list", "--since", "yesterday"], "RFC 3339"),
    (["list", "--url", "amqp://127.0.0.1:PORT/"], "its port must be a number"),
    (["replay", "a", "--redis-url", "redis://127.0.0.1:PORT/0"], "its port must be a number"),
    (["replay", "a", "--redis-url", "redis://127.0.0.1/0?foo=bar"], "wrong parameter"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[" ".join(line) for line, _ in WRONG])
def test_wrong_arguments(arguments: list[str], message: str) -> None:
    """Exit code 2 before anything is asked."""
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200", "HEIMDALL_AMQP_URL": "amqp://127.0.0.1:9/"})
    assert done.exit_code == 2
    assert message in done.stderr


async def test_nobody_answers(amqp_url: str, world: World) -> None:
    """No broker, no queue, no Redis: exit code 3, and nothing is taken."""
    assert (await world.run("list", url="amqp://guest:secret@127.0.0.1:9/")).exit_code == 3
    await world.die("a")
    away = ["replay", "a", "--url", amqp_url, "--redis-url", "redis://127.0.0.1:9/0"]
    done = await asyncio.to_thread(CliRunner().invoke, app, away)
    assert done.exit_code == 3
    assert "Redis" in done.stderr
    assert await world.listed() == ["a"]
    await (await world.channel.get_queue(DEAD)).delete(if_unused=False, if_empty=False)
    done = await world.run("list")
    assert done.exit_code == 3
    assert "was a worker ever started" in done.stderr


DEADLY = """
import os, signal, sys, time
if "worker.commands.dead_rerun" in sys.orig_argv:
    from worker.serving.session import OnnxSession
    def run(self, outputs, feed):
        if feed["mel"].mean() > 20: {action}
        return before(self, outputs, feed)
    before, OnnxSession.run = OnnxSession.run, run
"""


@pytest.mark.parametrize(
    ("action", "told"),
    [("os.kill(os.getpid(), signal.SIGSEGV)", "dies (SIGSEGV)"), ("time.sleep(60)", "does not end within")],
)
async def test_a_job_that_kills_or_hangs_is_explained(
    action: str, told: str, world: World, registry_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that computes it dies or is ended; the step is named, and the letter stays."""
    (tmp_path / "sitecustomize.py").write_text(DEADLY.format(action=action))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    crash = {"heimdall-code": "crashes_worker", "heimdall-model-version": "1"}
    await world.die("a", body=tone(1, amplitude=1e3), **crash)
    limit = ["--timeout", "30" if "kill" in action else "12"]
    done = await world.json("explain", "a", "--tracking-uri", f"sqlite:///{registry_file}", *limit)
    assert told in done["died"]
    assert done["steps"][-1] == {"step": "inference"}
    assert done["reproduced"]
    assert await world.listed() == ["a"]
