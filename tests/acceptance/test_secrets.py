"""Passwords of the broker, of Redis and of the registry: nothing that a worker says holds them, whatever goes wrong."""

import asyncio
import base64
import http.client
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import quote, urlsplit
from uuid import uuid4

import psutil
import pytest

from deploy.local import Broker, ServiceProcess
from deploy.local.ports import PortLease
from tests.support.bad_jobs import BAD_JOBS
from tests.support.metrics import get
from tests.support.models import tone
from tests.support.stack import EVERYTHING, management
from tests.support.station import Publisher, Station, command, publisher

CANARY = "c4nary-in-the-m1ne"
PAGES = ("/metrics", "/health/live", "/health/ready", "/health/startup", "/model/info", "/model/versions")
FAILS_S = 4.0
PATIENCE_S = 60.0
WORKERS_CONNECTIONS = 2


@dataclass
class Login:
    """A user of both servers with the canary for a password, and ways to lock it out."""

    name: str
    station: Station
    broker: Broker

    @property
    def urls(self) -> dict[str, str]:
        """The worker's addresses with the password in them."""
        return {
            "HEIMDALL_AMQP_URL": self._with_login(self.station.amqp_url),
            "HEIMDALL_REDIS_URL": self._with_login(self.station.redis_url),
        }

    def lock_out(self) -> None:
        """Another password at both servers, and every connection closed."""
        management(self.broker, "PUT", f"/users/{self.name}", {"password": "another", "tags": ""})
        for name in self._connections():
            with suppress(RuntimeError):  # It may be gone already.
                management(self.broker, "DELETE", f"/connections/{quote(name, safe='')}")
        self.station.redis.acl_setuser(self.name, reset=True, enabled=True, passwords=["+another"])
        self.station.redis.client_kill_filter(user=self.name)

    def _connections(self) -> list[str]:
        """The worker's two; the broker lists a connection some seconds after it was opened."""
        ends = time.monotonic() + PATIENCE_S
        while time.monotonic() < ends:
            listed = [c["name"] for c in management(self.broker, "GET", "/connections") if c.get("user") == self.name]
            if len(listed) >= WORKERS_CONNECTIONS:
                return listed
            time.sleep(0.5)
        raise TimeoutError("the broker lists no connections of the worker")

    def _with_login(self, url: str) -> str:
        parts = urlsplit(url)
        return parts._replace(netloc=f"{self.name}:{CANARY}@{parts.netloc.rsplit('@')[-1]}").geturl()


@pytest.fixture
def login(own_station: Station, broker: Broker) -> Iterator[Login]:
    """A user of the test's own."""
    it = Login(f"w-{uuid4().hex[:8]}", own_station, broker)
    vhost = urlsplit(own_station.amqp_url).path
    management(broker, "PUT", f"/users/{it.name}", {"password": CANARY, "tags": ""})
    management(broker, "PUT", f"/permissions{vhost}/{it.name}", EVERYTHING)
    own_station.redis.acl_setuser(it.name, enabled=True, passwords=[f"+{CANARY}"], keys="*", commands=["+@all"])
    yield it
    own_station.redis.acl_deluser(it.name)
    management(broker, "DELETE", f"/users/{it.name}")


def assert_silent(what: str, said: str) -> None:
    """The canary is nowhere, neither plain nor as a Basic login."""
    assert said, f"{what} says nothing at all"
    forms = {CANARY, quote(CANARY), *(base64.b64encode(f"{user}:{CANARY}".encode()).decode() for user in ("op", "w"))}
    forms |= {base64.b64encode(CANARY.encode()).decode().rstrip("=")}
    found = next((form for form in forms if form in said), None)
    if found is not None:
        at = said.index(found)
        pytest.fail(f"{what} holds a password: …{said[max(0, at - 200) : at]}[HERE]…")


async def all_answers(jobs: Publisher) -> str:
    """Everything that the worker publishes for one job of every kind, and for a command."""
    sent = [await jobs.publish(tone(1))]
    sent += [await jobs.publish(**make()) for make in BAD_JOBS.values()]
    replies = [await jobs.reply(correlation_id) for correlation_id in sent]
    said = await command(jobs, command="info")
    await jobs.until(lambda: bool(jobs.dead) and bool(jobs.events))
    return repr([said, replies, jobs.dead, jobs.events])


def pages(worker: ServiceProcess) -> str:
    """All that its HTTP server shows."""
    said = ""
    for path in PAGES:
        try:
            said += get(worker, path)[1]
        except (OSError, http.client.HTTPException):
            continue
    return said


@pytest.mark.parametrize("log_format", ["json", "console"])
async def test_a_worker_that_works_and_one_that_is_locked_out(login: Login, log_format: str) -> None:
    """Logs down to DEBUG, metrics, health, model pages, replies, letters and events: before and after logins fail."""
    worker = login.station.worker(**login.urls, HEIMDALL_LOG_FORMAT=log_format)
    async with publisher(login.station.amqp_url) as jobs:
        assert_silent("what is published", await all_answers(jobs))
    assert_silent("a page", pages(worker))
    assert_silent("the process list", " ".join(psutil.Process(worker.pid).cmdline()))
    login.lock_out()
    await until_said(worker, "broker.unavailable")
    await until_said(worker, "store.")
    await asyncio.sleep(FAILS_S)
    assert_silent("a page", pages(worker))
    assert_silent("the log", worker.log_text())


@pytest.mark.parametrize("log_format", ["json", "console"])
async def test_a_worker_that_reaches_nothing(own_station: Station, log_format: str) -> None:
    """Refused by all three servers from the start, with passwords in all three addresses."""
    nobody = PortLease.take()
    try:
        away = f"op:{CANARY}@127.0.0.1:{nobody.port}"
        worker = own_station.unready_worker(
            HEIMDALL_AMQP_URL=f"amqp://{away}/",
            HEIMDALL_REDIS_URL=f"redis://{away}/0",
            HEIMDALL_MLFLOW_TRACKING_URI=f"http://{away}/{CANARY}?token={CANARY}",
            HEIMDALL_LOG_FORMAT=log_format,
        )
        try:
            worker.start()
            worker.wait_ready(path="/health/live")
            await until_said(worker, "broker.unavailable")
            await until_said(worker, "registry")
            await asyncio.sleep(FAILS_S)
            assert_silent("a page", pages(worker))
            assert_silent("the log", worker.log_text())
        finally:
            worker.close()
    finally:
        nobody.release()


@pytest.mark.parametrize(
    "settings",
    [
        {"HEIMDALL_AMQP_URL": f"http://op:{CANARY}@127.0.0.1/"},
        {"HEIMDALL_REDIS_URL": f"http://op:{CANARY}@127.0.0.1/"},
        {"HEIMDALL_AMQP_URL": f"amqp://op:{CANARY}@127.0.0.1/", "HEIMDALL_PREFETCH_COUNT": "1"},
    ],
)
def test_settings_that_are_refused(settings: dict[str, str]) -> None:
    """A worker that does not start says which setting is wrong, not what stands in it."""
    ended = subprocess.run(
        [sys.executable, "-m", "worker"], env=settings, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 2
    assert_silent("the refusal", ended.stderr)


async def until_said(worker: ServiceProcess, text: str, patience_s: float = 60.0) -> None:
    """Wait for a line of the log."""
    async with asyncio.timeout(patience_s):
        while text not in worker.log_text():
            await asyncio.sleep(0.2)
