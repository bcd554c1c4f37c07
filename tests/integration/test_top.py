"""`heimdall top` on a real broker with real workers."""

import asyncio
import json
from typing import Any

import pytest
from typer.testing import CliRunner

from deploy.local import Broker
from tests.support.models import tone
from tests.support.station import Publisher, Station
from worker.commands.top import app


def top(station: Station, *arguments: str, code: int = 0) -> str:
    """Run `heimdall top --once`; what it prints."""
    options = ["--once", "--interval", "1", "--url", station.amqp_url, *arguments]
    done = CliRunner().invoke(app, options, env={"COLUMNS": "160"})
    assert done.exit_code == code, done.output
    return done.stdout or done.stderr


async def busy(jobs: Publisher) -> None:
    """Jobs one after the other, every fourth a bad one."""
    for number in range(1_000_000):
        await jobs.locate(tone(number)[: -3 if number % 4 == 3 else None])


async def viewed(station: Station, jobs: Publisher, *arguments: str) -> dict[str, Any]:
    """The view of a worker at work."""
    load = asyncio.create_task(busy(jobs))
    try:
        return json.loads(await asyncio.to_thread(top, station, "--json", *arguments))
    finally:
        load.cancel()


async def test_a_worker_at_work(shared_station: Station, jobs: Publisher, broker: Broker) -> None:
    """Its rates, p95 and version by its metrics; the queue's depth, consumers and rates by the management API."""
    url = shared_station.workers[0].http_url
    async with asyncio.timeout(60):  # The management API learns of a new queue some seconds later.
        while True:
            view = await viewed(shared_station, jobs, "--worker", url, "--management-url", broker.management_url)
            if view["queues"][0]["unacked"] is not None:
                break
    measured = view["workers"]
    assert [worker["state"] for worker in measured] == ["serving"]  # One row, with its name, and not a second by URL.
    assert measured[0]["worker"] != url
    assert measured[0]["jobs_per_s"] > measured[0]["errors_per_s"] > 0
    assert measured[0]["p95_ms"] > 0
    assert measured[0]["serving"] == {"production": "1"}
    queue = {found["name"]: found for found in view["queues"]}
    assert queue["heimdall.inference"]["consumers"] == 1
    assert queue["heimdall.inference"]["unacked"] is not None
    assert queue["heimdall.inference"]["ready"] is not None
    assert queue["heimdall.dead"]["consumers"] == 1  # The publisher of this test.
    assert view["problems"] == []


def test_without_metrics_and_management(shared_station: Station) -> None:
    """AMQP alone tells depth, consumers, states and versions, and the screen says what would tell more."""
    text = top(shared_station)
    assert "production 1" in text
    assert "serving" in text
    assert "--worker" in text
    row = next(line.split() for line in text.splitlines() if line.startswith("heimdall.inference"))
    assert row == ["heimdall.inference", "0", "-", "1", "-", "-"]


def test_what_cannot_be_asked_is_said(shared_station: Station) -> None:
    """A wrong address of a worker, and a queue that is not there: the rest is shown, and the exit code is 1."""
    text = top(shared_station, "--worker", "http://127.0.0.1:9", "--queue", "heimdall.other", code=1)
    assert "http://127.0.0.1:9" in text
    assert "missing" in text
    assert "production 1" in text


async def test_nobody_there(amqp_url: str) -> None:
    """A virtual host without workers and queues is shown as such."""
    text = await asyncio.to_thread(top, Station(amqp_url, "", ""), code=1)
    assert "no worker answers" in text
    assert text.count("missing") == 3


@pytest.mark.parametrize(
    ("url", "code", "message"),
    [
        ("http://example.org", 2, "amqp://"),
        ("amqp://guest:secret@127.0.0.1:PORT/", 2, "its port must be a number"),
        ("amqp://guest:secret@127.0.0.1:9/", 3, "no connection"),
    ],
)
def test_a_wrong_broker(url: str, code: int, message: str) -> None:
    """One line on standard error, and no password in it."""
    text = top(Station(url, "", ""), code=code)
    assert message in text
    assert "secret" not in text
