"""Processes killed, servers stopped: nothing confirmed is lost, and what is repeated is the same."""

import asyncio
import signal
import sys
from contextlib import suppress
from urllib.parse import quote, urlsplit
from uuid import uuid4

import pytest

from deploy.local import Broker, ServiceProcess, redis
from tests.support.metrics import get, value
from tests.support.models import tone
from tests.support.stack import management
from tests.support.station import Publisher, Station, publisher

JOBS = 300


async def publish_all(
    jobs: Publisher, count: int | None, pause: float = 0.0, enough: asyncio.Event | None = None
) -> dict[str, str]:
    """Publish jobs one after the other, a number or until enough; correlation id by job id."""
    sent: dict[str, str] = {}
    while len(sent) != count and not (enough and enough.is_set()):
        job_id = uuid4().hex
        sent[job_id] = await jobs.publish(tone(len(sent), n=600), job_id=job_id)
        await asyncio.sleep(pause)
    return sent


def assert_each_answered_alike(jobs: Publisher, station: Station, sent: dict[str, str]) -> None:
    """Every job has a result; every reply to it and the store hold the same bytes."""
    for job_id, correlation_id in sent.items():
        bodies = {answer.body for answer in jobs.replies[correlation_id]}
        assert len(bodies) == 1
        assert bodies == {station.redis.get(f"heimdall:result:{job_id}")}
        assert b'"position"' in bodies.pop()


async def test_kill_in_mid_batch(own_station: Station) -> None:
    """A worker killed three times under load loses no confirmed job, and repeats are byte for byte the same."""
    worker = own_station.worker()
    async with publisher(own_station.amqp_url) as jobs:
        publishing = asyncio.create_task(publish_all(jobs, JOBS, pause=0.01))
        for _ in range(3):
            answered = len(jobs.replies)
            await jobs.until(lambda seen=answered: len(jobs.replies) > seen + 20)
            await asyncio.to_thread(worker.kill)
            worker.start()
            await asyncio.to_thread(worker.wait_ready)
        sent = await publishing
        await jobs.until(lambda: all(jobs.replies[c] for c in sent.values()))
        assert_each_answered_alike(jobs, own_station, sent)
        job_id, correlation_id = next(iter(sent.items()))
        again = await jobs.locate(tone(0, n=600), job_id=job_id)
        assert again.body == jobs.replies[correlation_id][0].body


async def test_a_job_that_kills_the_process(own_station: Station) -> None:
    """It alone ends in the dead-letter queue as crashes_worker; its neighbours all get their results."""
    argv = (sys.executable, "-m", "tests.support.crashing_worker")
    worker = own_station.worker(argv=argv)
    deadly = uuid4().hex
    async with publisher(own_station.amqp_url) as jobs, restarted(worker) as restarts:
        before = await publish_all(jobs, 30)
        killer = await jobs.publish(tone(1, amplitude=1e3), job_id=deadly)
        after = await publish_all(jobs, 30)
        await jobs.until(lambda: all(jobs.replies[c] for c in [*before.values(), *after.values(), killer]), 120)
        assert jobs.replies[killer][0].code == "crashes_worker"
        assert_each_answered_alike(jobs, own_station, before | after)
        assert [letter.headers["heimdall-job-id"] for letter in jobs.dead] == [deadly]
        assert jobs.dead[0].headers["heimdall-code"] == "crashes_worker"
        # Twice in company, twice alone; the third start alone does not come to computing.
        assert restarts == [-signal.SIGKILL] * 4
        assert not own_station.redis.exists(f"heimdall:suspect:{deadly}")


@pytest.mark.parametrize("manner", ["stopped", "frozen"])
async def test_redis_away(manner: str, own_station: Station) -> None:
    """While Redis is away the worker takes no jobs and is not ready; afterwards every job has its result."""
    with redis({"appendonly": "yes"}) as server:
        own_station.redis_url = server.url
        worker = own_station.worker(HEIMDALL_REDIS_TIMEOUT_S="1")
        async with publisher(own_station.amqp_url) as jobs:
            await jobs.locate(tone())
            publishing = asyncio.create_task(publish_all(jobs, JOBS, pause=0.01))
            await jobs.until(lambda: len(jobs.replies) > 20)
            await asyncio.to_thread(server.stop if manner == "stopped" else server.pause)
            await until_ready(worker, ready=False)
            assert get(worker, "/health/live")[0] == 200
            async with asyncio.timeout(30):
                while value(worker, "heimdall_consuming"):
                    await asyncio.sleep(0.05)
            await asyncio.sleep(10)
            await asyncio.to_thread(server.start if manner == "stopped" else server.resume)
            sent = await publishing
            await jobs.until(lambda: all(jobs.replies[c] for c in sent.values()))
            assert_each_answered_alike(jobs, own_station, sent)
        await until_ready(worker, ready=True)
        assert value(worker, "heimdall_store_failures_total") > 0


async def test_held_jobs_are_released_when_redis_stays_away(own_station: Station) -> None:
    """After the time that jobs may be held they go back to the queue, and are answered when Redis is there again."""
    with redis() as server:
        own_station.redis_url = server.url
        worker = own_station.worker(HEIMDALL_REDIS_TIMEOUT_S="1", HEIMDALL_REDIS_HOLD_S="2")
        async with publisher(own_station.amqp_url) as jobs:
            await jobs.locate(tone())
            await asyncio.to_thread(server.stop)
            sent = await publish_all(jobs, 10)
            async with asyncio.timeout(30):
                while value(worker, "heimdall_released_total") < 1 or value(worker, "heimdall_in_flight") > 0:
                    await asyncio.sleep(0.05)
            await asyncio.to_thread(server.start)
            await jobs.until(lambda: all(jobs.replies[c] for c in sent.values()))
            assert_each_answered_alike(jobs, own_station, sent)


async def test_redis_away_at_start(own_station: Station) -> None:
    """A worker that finds no Redis takes no jobs until it does."""
    with redis() as server:
        own_station.redis_url = server.url
        server.stop()
        worker = own_station.unready_worker()
        try:
            worker.start()
            await asyncio.to_thread(worker.wait_ready, path="/health/live")
            async with asyncio.timeout(30):
                while "Redis does not take writes" not in get(worker, "/health/ready")[1]:
                    await asyncio.sleep(0.05)
            assert value(worker, "heimdall_consuming") == 0
            await asyncio.to_thread(server.start)
            await asyncio.to_thread(worker.wait_ready)
        finally:
            worker.close()


async def test_connections_closed_by_the_broker(own_station: Station, broker: Broker) -> None:
    """A worker whose connections are closed under load opens new ones; no job is lost, repeats are the same."""
    worker = own_station.worker()
    vhost = urlsplit(own_station.amqp_url).path.removeprefix("/")
    async with publisher(own_station.amqp_url) as jobs:
        enough = asyncio.Event()
        publishing = asyncio.create_task(publish_all(jobs, None, 0.02, enough))
        for round_ in range(3):
            seen = len(jobs.replies)
            await jobs.until(lambda seen=seen: len(jobs.replies) > seen + 20)
            await asyncio.to_thread(close_connections, broker, vhost)
            async with asyncio.timeout(30):
                while value(worker, "heimdall_broker_connects_total") < round_ + 2:
                    await asyncio.sleep(0.05)
        enough.set()
        sent = await publishing
        await jobs.until(lambda: all(jobs.replies[c] for c in sent.values()))
        assert_each_answered_alike(jobs, own_station, sent)


def close_connections(broker: Broker, vhost: str) -> None:
    """Close the worker's connections, as an operator would."""
    closed = 0
    while not closed:  # The management plugin learns of a connection with some delay.
        for connection in management(broker, "GET", "/connections"):
            name = connection.get("client_properties", {}).get("connection_name", "")
            if connection.get("vhost") == vhost and name.startswith("heimdall-worker"):
                with suppress(RuntimeError):  # It may have ended since it was listed.
                    management(broker, "DELETE", f"/connections/{quote(connection['name'], safe='')}")
                    closed += 1


async def test_sigterm_finishes_what_is_held(own_station: Station) -> None:
    """A drained worker ends with 0; each job was answered exactly once, by it or by the next worker."""
    first = own_station.worker()
    async with publisher(own_station.amqp_url) as jobs:
        publishing = asyncio.create_task(publish_all(jobs, JOBS, pause=0.002))
        await jobs.until(lambda: len(jobs.replies) > 20)
        first.terminate()
        first.terminate()
        assert await asyncio.to_thread(first.wait, 30) == 0
        own_station.worker()
        sent = await publishing
        await jobs.until(lambda: all(jobs.replies[c] for c in sent.values()))
        assert_each_answered_alike(jobs, own_station, sent)
        assert all(len(jobs.replies[c]) == 1 for c in sent.values())


class restarted:  # noqa: N801 - a context manager, used as a statement
    """Restarts a worker whenever it dies, as a supervisor would; the exit codes so far."""

    def __init__(self, worker: ServiceProcess) -> None:
        self._worker = worker
        self._codes: list[int] = []

    async def __aenter__(self) -> list[int]:
        self._task = asyncio.create_task(self._run())
        return self._codes

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        while True:
            if not self._worker.running:
                self._codes.append(self._worker.returncode)
                self._worker.start()
            await asyncio.sleep(0.05)


async def until_ready(worker: ServiceProcess, *, ready: bool) -> None:
    """Wait until the worker says that it is ready, or that it is not."""
    async with asyncio.timeout(30):
        while (get(worker, "/health/ready")[0] == 200) != ready:
            await asyncio.sleep(0.05)
