"""The benchmark's parts on real servers: script and worker end jobs alike, and what is measured of them is measured."""

import asyncio
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aio_pika
import pytest

from bench.drain import drain
from bench.equal import _done, check_outcomes
from bench.floors import measure
from bench.models import build
from bench.place import Place
from bench.recipe import RawJob, Recipe
from bench.requests import Address
from bench.source import Source
from bench.subjects import HEIMDALL, PLAIN_SCRIPT, Conditions, Program, Running, Subject, running
from bench.traffic import Traffic, traffic
from bench.workloads import WORKLOADS, Workload
from deploy.local import Broker, RedisServer, StartFailed
from deploy.local.server import NoControls

TOLERANCE_DEG = 1e-6


@dataclass(frozen=True)
class Servers:
    """A `Stack` of somebody else's servers, as `Place` reads it."""

    broker: Broker
    store: RedisServer
    directory: Path

    @property
    def tracking_uri(self) -> str:
        """Of a registry that exists."""
        return f"sqlite:///{self.directory}/mlflow.db"

    def worker_env(self) -> dict[str, str]:
        """What leads a worker here."""
        return {
            "HEIMDALL_AMQP_URL": self.broker.url,
            "HEIMDALL_REDIS_URL": self.store.url,
            "HEIMDALL_MLFLOW_TRACKING_URI": self.tracking_uri,
        }


@dataclass(frozen=True)
class SmallWorkload:
    """A workload whose model lies in the test's own directory."""

    inner: Workload
    path: Path

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def model(self) -> Path:
        """Its file."""
        return self.path


@pytest.fixture
def workload(tmp_path: Path) -> SmallWorkload:
    """Of seven receivers."""
    known = WORKLOADS["network"]
    return SmallWorkload(known, build(known.plan, tmp_path, RawJob("g", known.sigmf(), known.make_bodies(1)[0])))


@pytest.fixture
def where(amqp_url: str, redis_url: str, registry_file: Path, tmp_path: Path) -> Place:
    """A place on the test's own virtual host and database."""
    shutil.copy(registry_file, tmp_path / "mlflow.db")
    broker = Broker(amqp_url, NoControls("RabbitMQ", ""), None)
    store = RedisServer(redis_url, NoControls("Redis", ""))
    return Place(Servers(broker, store, tmp_path), [], [])  # type: ignore[arg-type]


@pytest.fixture
def source(where: Place) -> Iterator[Traffic]:
    """The load."""
    with traffic(where.amqp_url) as it:
        yield it


def located(it: Running, jobs: list[RawJob]) -> dict[str, dict[str, Any]]:
    """Results by job id."""
    heard = asyncio.run(_done(it, jobs))
    return {job_id: json.loads(reply) for job_id, reply in heard.replies.items()}


def recorded_long_ago(sigmf: str) -> str:
    """The metadata with an old capture: stale for both sides, however long the machine takes between them."""
    metadata = json.loads(sigmf)
    metadata["captures"][0]["core:datetime"] = "2024-05-01T12:00:00.000Z"
    return json.dumps(metadata)


def without_names(result: dict[str, Any]) -> dict[str, Any]:
    """What a result says of its place: all but times, and the version, which is the registry's to give."""
    spoken = {"position", "covariance_m2", "uncertainty", "ellipses", "receivers_used", "receivers_ignored", "flags"}
    shapes = [feature["geometry"] for feature in result["geojson"]["features"]]
    styles = [feature["properties"] | {"model_version": None} for feature in result["geojson"]["features"]]
    ids = [feature["id"] for feature in result["geojson"]["features"]]
    named = {"job_id": result["job_id"], "digest": result["model"]["digest"], "captured": result["capture_time"]}
    return {name: result[name] for name in spoken} | named | {"shapes": shapes, "styles": styles, "ids": ids}


def approximately(value: Any) -> Any:
    """Every number to a millionth: batches of other sizes round differently."""
    if isinstance(value, dict):
        return {key: approximately(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [approximately(inner) for inner in value]
    return pytest.approx(value, rel=1e-5, abs=TOLERANCE_DEG) if isinstance(value, float) else value


def test_worker_and_recipe_answer_alike(where: Place, workload: SmallWorkload) -> None:
    """The worker's results through the real queue say what the recipe computes: place, ellipses, GeoJSON, names."""
    sigmf = recorded_long_ago(workload.sigmf())
    jobs = [RawJob(f"alike-{n}", sigmf, body) for n, body in enumerate(workload.make_bodies(3, seed=11))]
    with running(HEIMDALL, Conditions(where, workload, "heimdall.bench-alike")) as it:  # type: ignore[arg-type]
        results = located(it, jobs)
        check_outcomes(it)
    expected = [json.loads(answer.result) for answer in Recipe(workload.path).locate(jobs)]
    for document in expected:
        got = results[document["job_id"]]
        assert set(document) | {"input_digest"} == set(got)
        assert without_names(got) == approximately(without_names(document))
        assert "stale" in got["flags"]


def test_the_plain_script_is_measured(where: Place, workload: SmallWorkload, source: Traffic) -> None:
    """It ends jobs as it should, a drain of it gives figures, and loads of every kind are answered."""
    with running(PLAIN_SCRIPT, Conditions(where, workload, "heimdall.bench-script")) as it:  # type: ignore[arg-type]
        check_outcomes(it)
        one = drain(it, source, 96)
        lone = source.lone(it.address, 3)
        steady = source.open_loop(it.address, 40.0, 0.5, 5)
    assert one.jobs == 76
    assert one.jobs_per_s > 0
    assert 0 < one.cpu_us < 1e6 / one.jobs_per_s * 4
    assert len(lone) == 3
    assert min(lone) > 0
    assert (steady.answered, steady.errors) == (steady.sent, 0)
    assert 15 <= steady.sent <= 25


async def test_a_lone_job_without_an_answer_ends_its_measurement(
    amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody consumes: no latency, and the load goes on to the next subject."""
    monkeypatch.setattr("bench.source.LONE_TIMEOUT_S", 0.2)
    source = Source(amqp_url)
    async with await aio_pika.connect(amqp_url) as connection:
        queue = await (await connection.channel()).declare_queue(exclusive=True)
        assert await source.lone(Address(queue.name, "tiny"), 3) == []
    for line in source._lines:
        await line.connection.close()


def test_a_subject_that_ends_is_said_to(where: Place, workload: SmallWorkload) -> None:
    """Its own last words are the reason."""
    broken = Subject("broken", "queue", {}, lambda _: [Program(["python3", "-c", "raise SystemExit('no such thing')"])])
    with (
        pytest.raises(StartFailed, match="no such thing"),
        running(broken, Conditions(where, workload, "heimdall.bench-broken")),  # type: ignore[arg-type]
    ):
        pass


def test_floors_are_measured(redis_url: str, workload: SmallWorkload) -> None:
    """Every floor is a positive figure, and the best batch is one of those tried."""
    found = measure("network", workload.path, redis_url, 0.2)
    assert min(found.features_us, found.onnx_us, found.answers_us, found.redis_us) > 0
    assert found.lone_compute_ms > 0
    assert found.batch_size in {1, 2, 4, 8, 16, 32}
    assert found.stored_bytes > found.result_bytes > 1000
