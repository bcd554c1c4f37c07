"""`heimdall publish` and the client's `publish_many` against a real broker, and a worker that answers as told."""

import asyncio
import hashlib
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import aio_pika
import numpy as np
import orjson
import pytest
from aio_pika.abc import AbstractIncomingMessage
from click.testing import Result
from typer.testing import CliRunner

from client import BrokerUnreachable, Capture, HeimdallClient, PublishRefused, cut
from client.cli import app
from schemas.problems import ErrorCode
from tests.unit.client.fakes import (
    FakeWorker,
    Proxy,
    capture,
    declare_topology,
    eventually,
    fake_worker,
    problem,
    rate_mismatch,
    result,
)

RATE = 10_000.0
Publish = Callable[..., Awaitable[Result]]


@pytest.fixture
async def worker(amqp_url: str) -> AsyncIterator[FakeWorker]:
    """A worker that locates everything in Torino."""
    async with fake_worker(amqp_url) as running:
        yield running


@pytest.fixture
def publish(amqp_url: str) -> Publish:
    """Run `heimdall publish` beside the test's loop."""

    async def run(*arguments: object) -> Result:
        line = ["publish", *map(str, arguments)]
        return await asyncio.to_thread(CliRunner().invoke, app, line, env=environment(amqp_url))

    return run


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    """Two seconds of two receivers, each sample telling its own place."""
    ramp = np.arange(20_000) / 20_000
    np.save(tmp_path / "drive.npy", np.stack([ramp, -ramp]).astype(np.complex64))
    return tmp_path / "drive.npy"


def environment(url: str) -> dict[str, str]:
    """Of a command."""
    return {"HEIMDALL_AMQP_URL": url, "COLUMNS": "200"}


def started(url: str, *arguments: object) -> subprocess.Popen[str]:
    """`heimdall publish` as a process of its own."""
    line = [sys.executable, "-m", "client.cli", "publish", *map(str, arguments)]
    return subprocess.Popen(
        line, env={**os.environ, **environment(url)}, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )


def metadata(job: AbstractIncomingMessage) -> Any:
    """The SigMF metadata of a job."""
    return orjson.loads(str(job.headers["sigmf"]))


def times(jobs: Iterable[AbstractIncomingMessage]) -> list[str]:
    """Capture times of jobs."""
    return [metadata(job)["captures"][0]["core:datetime"] for job in jobs]


async def test_windows_are_cut_as_asked(publish: Publish, worker: FakeWorker, drive: Path) -> None:
    """Length, hop, capture time and samples of each window; the first is asked about, and none comes twice."""
    options = ("--window-ms", 200, "--rate", 10, "--sample-rate", "10k", "--time", "2026-01-01T00:00:00Z")
    ran = await publish(drive, *options, "--rx", "A=45,7", "--rx", "B=45,8", "--json")
    assert ran.exit_code == 0, ran.output
    async with asyncio.timeout(10):  # What the broker has confirmed is not yet delivered.
        while len(worker.jobs) < 19:
            await asyncio.sleep(0.01)
    assert len({job.message_id for job in worker.jobs}) == len(worker.jobs) == 19
    assert {job.headers["session_id"] for job in worker.jobs} == {"drive"}
    assert times(worker.jobs)[:2] == ["2026-01-01T00:00:00.000000000Z", "2026-01-01T00:00:00.100000000Z"]
    second = np.frombuffer(worker.jobs[1].body, np.complex64).reshape(-1, 2)
    assert np.array_equal(second[:, 0], np.load(drive)[0, 1000:3000])
    assert [bool(job.reply_to) for job in worker.jobs] == [True] + [False] * 18
    confirmed = [orjson.loads(line) for line in ran.stdout.splitlines()]
    assert {one["job_id"] for one in confirmed} == {job.message_id for job in worker.jobs}
    assert "published: jobs=19 in" in ran.stderr


async def test_the_rate_that_a_worker_asks_for(publish: Publish, worker: FakeWorker, drive: Path) -> None:
    """After one refusal every window comes at the model's rate, with the whole of its length."""
    worker.answer = lambda message: (
        result(message.message_id or "")
        if len(message.body) == 9600 * 16
        else rate_mismatch(message.message_id or "", 48e3)
    )
    ran = await publish(drive, "--window-ms", 200, "--sample-rate", RATE)
    assert ran.exit_code == 0, ran.output
    assert "the model takes 48000 S/s, not 10000" in ran.stderr
    refused, *others = worker.jobs
    assert len(others) == 10
    assert {metadata(job)["global"]["core:sample_rate"] for job in others} == {48e3}
    assert refused.message_id not in {job.message_id for job in others}
    middle = np.frombuffer(others[5].body, np.complex64).reshape(-1, 2)[:, 0]
    assert np.allclose(middle.real, 0.5 + np.arange(9600) / 48e3 / 2, atol=1e-3)


async def test_a_refusal_of_the_first_window_stops_the_rest(publish: Publish, worker: FakeWorker, drive: Path) -> None:
    """What is wrong with all windows is said once, and the dead-letter queue is not filled with it."""
    worker.answer = lambda message: problem(message.message_id or "", ErrorCode.RECEIVER_MISMATCH)
    ran = await publish(drive, "--window-ms", 200, "--sample-rate", RATE)
    assert ran.exit_code == 1
    assert "receiver_mismatch" in ran.stderr
    assert "stopped early" in ran.stderr
    assert len(worker.jobs) == 1


async def test_without_a_worker_the_queue_takes_all(publish: Publish, worker: FakeWorker, drive: Path) -> None:
    """Nobody answers: the windows are published at their own rate, and that is said."""
    worker.answer = lambda _: None
    ran = await publish(drive, "--window-ms", 200, "--sample-rate", RATE, "--ask", 0.3)
    assert ran.exit_code == 0, ran.output
    assert "no worker answered" in ran.stderr
    assert len({job.message_id for job in worker.jobs}) == 10


async def test_a_killed_run_goes_on_where_it_stopped(amqp_url: str, worker: FakeWorker, drive: Path) -> None:
    """With a journal, a second run publishes what the first did not get to; no window is missing, or under two ids."""
    options = (drive, "--window-ms", 20, "--sample-rate", "10k", "--time", "2026-01-01T00:00:00Z", "--ask", 0)
    journal = ("--journal", drive.with_name("drive.journal"))
    first = started(amqp_url, *options, *journal, "--realtime")
    await eventually(lambda: len(worker.jobs) >= 10, timeout=60)
    first.kill()
    first.communicate()
    before = len(worker.jobs)
    assert before < 90
    second = started(amqp_url, *options, *journal)
    _, said = await asyncio.to_thread(second.communicate)
    assert second.returncode == 0, said
    assert "confirmed before" in said
    await eventually(lambda: len({job.message_id for job in worker.jobs}) == 100)
    assert len(set(times(worker.jobs))) == 100
    assert len(worker.jobs) <= 100 + before


async def test_a_folder_is_watched(amqp_url: str, worker: FakeWorker, tmp_path: Path) -> None:
    """Files that come are published when they are complete, a broken one is left out, and Ctrl-C ends in good order."""
    watching = started(amqp_url, tmp_path, "--watch", "--sample-rate", "10k", "--ask", 0)
    with (tmp_path / "slow.cf32").open("wb") as slow:
        for _ in range(6):
            slow.write(bytes(800))
            slow.flush()
            await asyncio.sleep(0.5)
    (tmp_path / "broken.npy").write_bytes(b"no array")
    await eventually(lambda: bool(worker.jobs), timeout=60)
    (tmp_path / "late.cs16").write_bytes(bytes(400))
    await eventually(lambda: len(worker.jobs) == 2, timeout=60)
    watching.send_signal(signal.SIGINT)
    _, said = await asyncio.to_thread(watching.communicate)
    assert watching.returncode == 0, said
    assert [len(job.body) for job in worker.jobs] == [4800, 400]
    assert [job.headers["session_id"] for job in worker.jobs] == ["slow", "late"]


async def test_a_large_body_becomes_a_reference(publish: Publish, worker: FakeWorker, drive: Path) -> None:
    """The message is empty, and the file has the claimed size and digest."""
    store = drive.with_name("store")
    store.mkdir()
    ran = await publish(drive, "--sample-rate", RATE, "--claims", f"file://{store}", "--claims-above", 1000, "--ask", 0)
    assert ran.exit_code == 0, ran.output
    await eventually(lambda: bool(worker.jobs))
    claim = orjson.loads(str(worker.jobs[0].headers["claim"]))
    stored = await asyncio.to_thread(Path(claim["url"].removeprefix("file://")).read_bytes)
    assert worker.jobs[0].body == b""
    assert claim["size"] == len(stored) == 20_000 * 16
    assert claim["sha256"] == hashlib.sha256(stored).hexdigest()


async def test_publish_returns_when_the_broker_has_it(amqp_url: str, worker: FakeWorker) -> None:
    """A job without a reply address or deadline, persistent, under the id that is returned."""
    async with HeimdallClient(amqp_url) as client:
        job_id = await client.publish(capture(), session_id="s1")
    await eventually(lambda: bool(worker.jobs))
    (job,) = worker.jobs
    assert (job.message_id, job.reply_to, job.headers["session_id"]) == (job_id, None, "s1")
    assert "deadline_ms" not in job.headers
    assert job.delivery_mode == aio_pika.DeliveryMode.PERSISTENT


async def test_many_arrays_in_order(amqp_url: str, worker: FakeWorker) -> None:
    """Ids come back in the captures' order, and each is told when it is confirmed."""
    told: list[str] = []
    whole = Capture(
        samples=np.arange(5000).astype(np.complex64), sample_rate=1000.0, capture_time="2026-01-01T00:00:00Z"
    )
    async with HeimdallClient(amqp_url) as client:
        ids = await client.publish_many(cut(whole, window_s=0.1), outstanding=4, confirmed=told.append)
    await eventually(lambda: len(worker.jobs) == 50)
    assert sorted(told) == sorted(ids)
    by_id = {job.message_id: job for job in worker.jobs}
    assert times(by_id[one] for one in ids) == sorted(times(worker.jobs))


async def test_no_more_than_so_many_are_outstanding(amqp_url: str, worker: FakeWorker) -> None:
    """While the broker is silent, no more captures are taken than may wait for their confirms."""
    proxy, taken = Proxy(amqp_url), 0

    def captures() -> Iterable[Capture]:
        nonlocal taken
        for _ in range(40):
            taken += 1
            yield capture()

    async with proxy.running() as url, HeimdallClient(url) as client:
        proxy.thawed.clear()
        publishing = asyncio.create_task(client.publish_many(captures(), outstanding=5))
        await asyncio.sleep(0.5)
        assert taken <= 6
        proxy.thawed.set()
        assert len(await publishing) == 40


async def test_a_cut_connection_loses_nothing(amqp_url: str, worker: FakeWorker) -> None:
    """Every job arrives, at least once, whatever breaks between; all under the ids that are returned."""
    proxy, told = Proxy(amqp_url), itertools.count(1)
    async with proxy.running() as url, HeimdallClient(url) as client:

        def cutting(_: str) -> None:
            if next(told) in (20, 60):
                proxy.cut()

        ids = await client.publish_many((capture() for _ in range(100)), outstanding=8, confirmed=cutting)
    await eventually(lambda: {job.message_id for job in worker.jobs} == set(ids))
    assert len(ids) == 100
    assert proxy.connections == 3


async def test_a_full_queue_is_waited_for(amqp_url: str) -> None:
    """While the broker refuses nothing is lost, and when there is room the rest goes."""
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        queue = await declare_topology(channel, **{"x-max-length": 3, "x-overflow": "reject-publish"})
        got: list[str] = []
        async with HeimdallClient(amqp_url) as client:
            publishing = asyncio.create_task(client.publish_many([capture()] * 30, outstanding=4))
            await asyncio.sleep(0.5)
            assert not publishing.done()

            async def take(message: AbstractIncomingMessage) -> None:
                got.append(message.message_id or "")
                await message.ack()

            await queue.consume(take)
            ids = await publishing
        await eventually(lambda: set(got) >= set(ids))


async def test_a_full_queue_is_waited_for_by_the_command(amqp_url: str, publish: Publish, drive: Path) -> None:
    """Also by the window that a worker is asked about first."""
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        queue = await declare_topology(channel, **{"x-max-length": 1, "x-overflow": "reject-publish"})
        async with HeimdallClient(amqp_url) as client:
            with pytest.raises(PublishRefused):
                await client.publish_many([capture()] * 20, outstanding=1, patience_s=1)
        publishing = asyncio.create_task(publish(drive, "--sample-rate", "10k", "--window-ms", "500", "--ask", "1"))
        await asyncio.sleep(2.5)
        assert not publishing.done()
        got: list[str] = []

        async def take(message: AbstractIncomingMessage) -> None:
            got.append(message.message_id or "")
            await message.ack()

        await queue.consume(take)
        ran = await publishing
    assert ran.exit_code == 0, ran.output
    assert len({job for job in got if job.startswith("drive")}) == 4


async def test_patience_ends(amqp_url: str) -> None:
    """A queue that stays full is reported as such, as retriable; a broker that stays away as unreachable."""
    async with await aio_pika.connect(amqp_url) as connection:
        await declare_topology(await connection.channel(), **{"x-max-length": 1, "x-overflow": "reject-publish"})
        async with HeimdallClient(amqp_url) as client:
            with pytest.raises(PublishRefused) as refused:
                await client.publish_many([capture()] * 20, outstanding=1, patience_s=1)
        assert refused.value.retriable
    proxy = Proxy(amqp_url)
    async with proxy.running() as url, HeimdallClient(url, connect_timeout=0.5) as client:
        proxy.thawed.clear()
        with pytest.raises(BrokerUnreachable):
            await client.publish(capture(), patience_s=1)


async def test_patience_covers_the_start(
    amqp_url: str, worker: FakeWorker, drive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that is away when publishing begins is waited for, and that is said."""
    monkeypatch.setattr("client.commands.publish.DEFAULT_TIMEOUT_S", 1.0)
    proxy = Proxy(amqp_url)
    proxy.thawed.clear()
    async with proxy.running() as url:
        line = ["publish", str(drive), "--sample-rate", "10k", "--patience", "60", "--url", url]
        publishing = asyncio.create_task(asyncio.to_thread(CliRunner().invoke, app, line, env=environment(url)))
        await asyncio.sleep(2.5)
        assert not publishing.done()
        proxy.thawed.set()
        ran = await publishing
    assert ran.exit_code == 0, ran.output
    assert "waiting for the broker: no connection to" in ran.stderr
    assert len(worker.jobs) == 1
