"""Canary, shadow, rollback and pause, as the registry says, on real workers."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from tests.support.metrics import get, page, value
from tests.support.models import LATITUDE, tone, write_model
from tests.support.station import Publisher, Station, command, publisher
from worker.serving.rollout import CANARY, FAILED_TAG, PAUSED_TAG, PREVIOUS_TAG, SHADOW, WEIGHT_TAG

OTHER_LATITUDE = LATITUDE + 1.0
LOUD, LOUD_DB = 300.0, 5.0
"""Samples of that amplitude have a higher level; warm-up and golden vectors have a lower one."""
POISONED_DB = -300.0
"""Below the level of any sample: a model with this limit fails on every one."""


@pytest.fixture
def registry(own_station: Station) -> MlflowClient:
    """A client of the station's registry, as an operator has it."""
    return MlflowClient(own_station.tracking_uri, registry_uri=own_station.tracking_uri)


def register(station: Station, directory: Path, alias: str, **changes: float) -> str:
    """Register a further version under an alias; its number."""
    model = write_model(directory / f"{alias}.onnx", **{"latitude": OTHER_LATITUDE} | changes)
    return station.registry.register(model, alias=alias)


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.05)


async def versions_by_session(jobs: Publisher, sessions: int) -> dict[str, str]:
    """The version that answers each session."""
    names = [f"source-{number}" for number in range(sessions)]
    sent = {name: await jobs.publish(tone(number), headers={"session_id": name}) for number, name in enumerate(names)}
    return {name: (await jobs.reply(sent[name])).json["model_version"] for name in names}


async def test_a_session_keeps_its_version(own_station: Station, registry: MlflowClient, tmp_path: Path) -> None:
    """A canary at 30 % gets its share of sessions, and the same ones on another worker and after a restart."""
    canary = register(own_station, tmp_path, CANARY)
    registry.set_model_version_tag("heimdall", canary, WEIGHT_TAG, "30")
    first = own_station.worker()
    async with publisher(own_station.amqp_url) as jobs:
        chosen = await versions_by_session(jobs, 200)
        assert 0.2 < list(chosen.values()).count(canary) / len(chosen) < 0.4
        own_station.worker()
        assert await versions_by_session(jobs, 200) == chosen
        first.terminate()
        assert await asyncio.to_thread(first.wait, 30) == 0
        assert await versions_by_session(jobs, 200) == chosen


async def test_a_failing_canary_is_rolled_back(own_station: Station, registry: MlflowClient, tmp_path: Path) -> None:
    """Jobs a canary fails on are answered by production; within a hundred of them it is marked and gone."""
    canary = register(own_station, tmp_path, CANARY, poison_above_db=POISONED_DB)
    registry.set_model_version_tag("heimdall", canary, WEIGHT_TAG, "100")
    # Its golden vector fails too, and would keep it out: a canary that fails must get past its proof first.
    worker = own_station.worker(HEIMDALL_REQUIRE_GOLDEN="false")
    await eventually(lambda: FAILED_TAG in registry.get_model_version("heimdall", canary).tags)
    async with publisher(own_station.amqp_url) as jobs:
        assert (await jobs.locate(tone(1))).json["model_version"] == "1"
    assert [v["version"] for v in page(worker, "/model/versions")] == ["1"]


async def test_a_canary_that_fails_on_real_jobs(own_station: Station, registry: MlflowClient, tmp_path: Path) -> None:
    """A canary that passes its proof and fails on jobs is rolled back within a hundred of its jobs; none is lost."""
    canary = register(own_station, tmp_path, CANARY, poison_above_db=LOUD_DB)
    registry.set_model_version_tag("heimdall", canary, WEIGHT_TAG, "50")
    worker = own_station.worker(HEIMDALL_MAX_BATCH_SIZE="8", HEIMDALL_PREFETCH_COUNT="32")
    assert [v["version"] for v in page(worker, "/model/versions")] == ["1", canary]
    async with publisher(own_station.amqp_url) as jobs:
        for seed in range(400):
            answer = await jobs.locate(tone(seed, amplitude=LOUD), headers={"session_id": str(seed)})
            assert (answer.code, answer.json["model_version"]) == (None, "1")
            if seed % 10 == 0 and len(page(worker, "/model/versions")) == 1:
                break
    assert value(worker, "heimdall_canary_reruns_total") <= 100
    await eventually(lambda: "items failed" in registry.get_model_version("heimdall", canary).tags.get(FAILED_TAG, ""))


async def test_production_at_fault_keeps_its_jobs(own_station: Station, registry: MlflowClient, tmp_path: Path) -> None:
    """When most items of several batches fail, the version before serves, and the jobs held then have results."""
    worker = own_station.worker(HEIMDALL_MAX_BATCH_SIZE="8", HEIMDALL_PREFETCH_COUNT="32")
    faulty = register(own_station, tmp_path, "production", poison_above_db=LOUD_DB)
    registry.set_model_version_tag("heimdall", faulty, PREVIOUS_TAG, "1")
    async with publisher(own_station.amqp_url) as jobs:
        assert (await command(jobs, command="reload"))["ok"] is True
        answers = [await jobs.locate(tone(seed, amplitude=LOUD)) for seed in range(20)]
    codes = [answer.code for answer in answers]
    assert codes[-1] is None
    # Lone jobs are batches of one: the eighth failure in a row tells, and that job is kept.
    assert codes.count("inference_failed") == 7
    assert answers[7].json["model_version"] == "1"
    assert "failed" in registry.get_model_version("heimdall", faulty).tags[FAILED_TAG]
    assert value(worker, "heimdall_model_rollbacks_total", alias="production") == 1


async def test_production_at_fault_without_another_pauses(own_station: Station, tmp_path: Path) -> None:
    """Without a version to go back to, the worker takes no jobs and keeps them; a good version answers them."""
    faulty = register(own_station, tmp_path, "production", poison_above_db=LOUD_DB)
    worker = own_station.worker(HEIMDALL_REGISTRY_POLL_S="0.5")
    async with publisher(own_station.amqp_url) as jobs:
        for seed in range(7):
            assert (await jobs.locate(tone(seed, amplitude=LOUD))).code == "inference_failed"
        kept = [await jobs.publish(tone(seed, amplitude=LOUD)) for seed in range(100, 110)]
        await eventually(lambda: "no valid model" in get(worker, "/health/ready")[1])
        assert get(worker, "/health/live")[0] == 200
        good = register(own_station, tmp_path, "production")
        assert good != faulty
        answers = [await jobs.reply(correlation_id) for correlation_id in kept]
        assert [answer.json.get("model_version") for answer in answers] == [good] * len(kept)


async def test_a_shadow_is_compared_and_never_answers(own_station: Station, tmp_path: Path) -> None:
    """A shadow one degree off shows its distance in the metrics; replies come from production alone."""
    register(own_station, tmp_path, SHADOW)
    worker = own_station.worker()
    async with publisher(own_station.amqp_url) as jobs:
        for seed in range(10):
            assert (await jobs.locate(tone(seed))).json["model_version"] == "1"
            await eventually(lambda seed=seed: value(worker, "heimdall_shadow_samples_total") > seed)
    compared = value(worker, "heimdall_shadow_samples_total", result="compared")
    assert compared > 0
    mean_m = value(worker, "heimdall_shadow_distance_meters_sum") / compared
    assert mean_m == pytest.approx(111_160, rel=0.01)
    assert value(worker, "heimdall_shadow_area_ratio_sum") / compared == pytest.approx(1.0, rel=0.03)


async def test_pause_of_the_fleet_holds_for_later_workers(own_station: Station, registry: MlflowClient) -> None:
    """The registry's tag pauses workers at the command, and those that start later; resume lets all go on."""
    first = own_station.worker()
    async with publisher(own_station.amqp_url) as jobs:
        registry.set_registered_model_tag("heimdall", PAUSED_TAG, "operator: maintenance")
        reply = await command(jobs, command="pause")
        assert "the fleet is paused" in str(reply["state"])
        later = own_station.unready_worker()
        try:
            later.start()
            await asyncio.to_thread(later.wait_ready, path="/health/live")
            await eventually(lambda: "the fleet is paused" in get(later, "/health/ready")[1])
            waiting = await jobs.publish(tone(1))
            await asyncio.sleep(0.5)
            assert not jobs.replies[waiting]
            registry.delete_registered_model_tag("heimdall", PAUSED_TAG)
            await command(jobs, command="resume")
            assert (await jobs.reply(waiting)).code is None
        finally:
            later.close()
    await eventually(lambda: get(first, "/health/ready")[0] == 200)


async def test_drain_answers_when_nothing_is_held(own_station: Station) -> None:
    """A drained worker stays up, takes nothing, and takes jobs again when told to resume."""
    own_station.worker()
    async with publisher(own_station.amqp_url) as jobs:
        await jobs.locate(tone(1))
        drained = await command(jobs, command="drain")
        assert (drained["ok"], drained["detail"]) == (True, "nothing is held")
        waiting = await jobs.publish(tone(2))
        await asyncio.sleep(0.5)
        assert not jobs.replies[waiting]
        assert (await command(jobs, command="resume"))["ok"] is True
        assert (await jobs.reply(waiting)).code is None


async def test_a_start_while_the_registry_is_down(own_station: Station, tmp_path: Path) -> None:
    """A worker that kept what served last starts with it, verified, when the registry does not answer."""
    state = {"HEIMDALL_STATE_DIR": str(tmp_path / "state")}
    first = own_station.worker(**state)
    first.terminate()
    assert await asyncio.to_thread(first.wait, 30) == 0
    second = own_station.worker(HEIMDALL_MLFLOW_TRACKING_URI="http://127.0.0.1:9", **state)
    assert [v["version"] for v in page(second, "/model/versions")] == ["1"]
    async with publisher(own_station.amqp_url) as jobs:
        assert (await jobs.locate(tone(1))).json["model_version"] == "1"
        reply = await command(jobs, command="reload")
        assert reply["ok"] is False
        assert "registry does not answer" in str(reply["detail"])
        assert (await jobs.locate(tone(2))).json["model_version"] == "1"
