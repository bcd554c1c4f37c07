"""`heimdall ctl` against workers on real servers."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.metrics import page
from tests.support.models import LATITUDE, tone, write_model
from tests.support.station import Station, publisher


@pytest.fixture
def fleet(own_station: Station, tmp_path: Path) -> Station:
    """Two workers, and two versions beside the one that serves."""
    for number in (2, 3):
        model = write_model(tmp_path / f"{number}.onnx", latitude=LATITUDE + number)
        own_station.registry.register(model, alias=f"candidate{number}")
    for name in ("a", "b"):
        own_station.worker(HEIMDALL_INSTANCE=name)
    return own_station


def ctl(station: Station, *arguments: str, code: int = 0) -> dict[str, Any]:
    """Run the command; its JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "worker.commands.ctl", *arguments, "--url", station.amqp_url, "--json"]
        + (["--tracking-uri", station.tracking_uri] if arguments[0] not in {"info", "ping", "reload"} else []),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout) if done.stdout else {"error": done.stderr}


def served(station: Station) -> list[dict[str, str]]:
    """Part → version of every worker."""
    return [{v["alias"]: v["version"] for v in page(worker, "/model/versions")} for worker in station.workers]


def test_a_rollout(fleet: Station) -> None:
    """Canary, promotion and rollback: the fleet agrees each time, and a later worker serves the same."""
    assert {worker["instance"] for worker in ctl(fleet, "ping")["workers"]} == {"a", "b"}
    ctl(fleet, "canary", "2", "--weight", "10")
    ctl(fleet, "shadow", "3")
    assert served(fleet) == 2 * [{"production": "1", "canary": "2", "shadow": "3"}]
    assert ctl(fleet, "promote", "2")["agreed"]
    assert served(fleet) == 2 * [{"production": "2", "shadow": "3"}]
    ctl(fleet, "shadow", "--off")
    ctl(fleet, "rollback")
    fleet.worker(HEIMDALL_INSTANCE="late")
    assert served(fleet) == 3 * [{"production": "1"}]
    assert len(ctl(fleet, "info")["workers"]) == 3


def test_refusals(fleet: Station, tmp_path: Path) -> None:
    """A version that is none or may not serve, and a rollback to nowhere: exit code 1, and the old one serves."""
    assert "99" in ctl(fleet, "promote", "99", code=1)["error"]
    assert "heimdall.previous" in ctl(fleet, "rollback", code=1)["error"]
    bad = write_model(tmp_path / "bad.onnx", golden_error=0.1)
    version = fleet.registry.register(bad, alias="candidate")
    document = ctl(fleet, "promote", version, code=1)
    assert all("golden[0]" in worker["complaint"] for worker in document["workers"])
    assert served(fleet) == 2 * [{"production": "1"}]


async def test_pause_and_resume(fleet: Station) -> None:
    """A paused fleet takes nothing, one worker can be paused alone, and who is missing is said."""
    await asyncio.to_thread(ctl, fleet, "pause", "--reason", "maintenance")
    async with publisher(fleet.amqp_url) as jobs:
        waiting = await jobs.publish(tone(1))
        await asyncio.sleep(0.5)
        assert not jobs.replies[waiting]
        await asyncio.to_thread(ctl, fleet, "resume")
        await jobs.reply(waiting)
        paused = await asyncio.to_thread(ctl, fleet, "drain", "--instance", "a")
        assert [worker["instance"] for worker in paused["workers"]] == ["a"]
        assert (await jobs.locate(tone(2))).code is None
    assert (await asyncio.to_thread(ctl, fleet, "ping", "--instance", "nobody", code=3))["workers"] == []
    assert fleet.registry.view().paused is None


def test_a_user_who_may_not(own_station: Station) -> None:
    """The ping is refused already, so the registry stays as it is."""
    own_station.worker(HEIMDALL_CONTROL_USERS="somebody-else")
    document = ctl(own_station, "pause", code=1)
    assert "may not command" in document["workers"][0]["complaint"]
    assert own_station.registry.view().paused is None


def test_nobody_there(own_station: Station) -> None:
    """Without a worker the registry changes all the same, and the exit code says that nobody answered."""
    document = ctl(own_station, "pause", code=3)
    assert document["registry"]
    assert own_station.registry.view().paused is not None


def test_a_report(fleet: Station) -> None:
    """A promotion with its line of figures."""
    line = ctl(fleet, "promote", "2", "--report")["report"]
    assert line.startswith("swaps: swaps=1 jobs=0 lost=- ")
