"""Models of every family, described by their contracts alone, answer through the queue as computed by hand."""

import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyproj import Geod

from deploy.local import Broker, RedisServer, ServiceProcess
from tests.support.families import EVERYBODY, FAMILIES, NETWORK, SET_FAMILIES, Expected, Family, Scene, family, scene
from tests.support.metrics import value
from tests.support.stack import fresh_database, fresh_vhost
from tests.support.station import Publisher, publisher, station

POSITION_TOLERANCE_M, ELLIPSE_TOLERANCE = 1.0, 1e-3
# In a run of several items a graph's single precision may round otherwise than in a run of one.
ROUNDING_M, ROUNDING = 0.5, 1e-5
CONFIDENCES = [0.5, 0.95]
MIXED = {
    "one receiver": scene(11, NETWORK[4:5]),
    "two receivers": scene(12, NETWORK[1:3]),
    "three receivers, long": scene(13, NETWORK[3:6], 30_000),
    "the network": scene(14, NETWORK),
    "the network, backwards and short": scene(15, NETWORK[::-1], 2_100),
    "all but the first and the last": scene(16, NETWORK[1:-1], 6_000),
}
WHOLE_BATCHES = {
    "HEIMDALL_EAGER": "false",
    "HEIMDALL_MAX_WAIT_MS": "400",
    "HEIMDALL_MAX_BATCH_SIZE": str(len(MIXED)),
    # A remembered answer would prove nothing of the run that it stands for.
    "HEIMDALL_CACHE_ENABLED": "false",
}


@dataclass(frozen=True)
class Served:
    """A family that a worker serves."""

    family: Family
    worker: ServiceProcess
    amqp_url: str


@pytest.fixture(scope="module")
def served(
    request: pytest.FixtureRequest,
    broker: Broker,
    redis_server: RedisServer,
    registry_file: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Served]:
    """The family that a test asks for, in a world of its own that the tests of the family share."""
    directory = tmp_path_factory.mktemp(request.param)
    model = family(request.param)
    uri = f"sqlite:///{shutil.copy(registry_file, directory)}"
    with fresh_vhost(broker) as amqp, fresh_database(redis_server) as redis, station(amqp, redis, uri) as it:
        it.registry.register(model.write(directory / "model.onnx"))
        yield Served(model, it.worker(**WHOLE_BATCHES), amqp)


@pytest.fixture
async def jobs(served: Served) -> AsyncIterator[Publisher]:
    """A publisher to the family's worker."""
    async with publisher(served.amqp_url) as it:
        yield it


@pytest.mark.parametrize("served", FAMILIES, indirect=True)
async def test_mixed_jobs_in_one_run_are_answered_as_alone(served: Served, jobs: Publisher) -> None:
    """Jobs of one to seven receivers and several lengths share one run, and each gets the hand-computed fix."""
    alone = {name: (await jobs.locate(heard.body(), **job_of(heard))).json for name, heard in MIXED.items()}
    runs = value(served.worker, "heimdall_onnx_runs_total")
    sent = {name: await jobs.publish(heard.body(), **job_of(heard)) for name, heard in MIXED.items()}
    together = {name: (await jobs.reply(correlation_id)).json for name, correlation_id in sent.items()}
    assert value(served.worker, "heimdall_onnx_runs_total") == runs + 1
    for name, heard in MIXED.items():
        assert_fix(name, alone[name], served.family.expected(heard))
        assert_same(name, together[name], alone[name])


@pytest.mark.parametrize("served", SET_FAMILIES, indirect=True)
async def test_of_too_many_receivers_the_strongest_count(served: Served, jobs: Publisher) -> None:
    """With fourteen receivers the fix is that of the strongest, and the reply names the others with the reason."""
    heard = scene(21, EVERYBODY)
    reply = (await jobs.locate(heard.body(), **job_of(heard))).json
    assert_fix("fourteen receivers", reply, served.family.expected(heard))
    kept = served.family.kept(heard)
    assert [receiver["id"] for receiver in reply["receivers_used"]] == [heard.places[row].name for row in kept]
    left = [place.name for row, place in enumerate(heard.places) if row not in kept]
    assert [receiver["id"] for receiver in reply["receivers_ignored"]] == left
    reason = f"the model takes {served.family.capacity} receivers: the strongest were kept"
    assert {receiver["reason"] for receiver in reply["receivers_ignored"]} == {reason}


@pytest.mark.parametrize("served", FAMILIES, indirect=True)
async def test_the_samples_of_a_batch_job_are_fixes_of_their_own(served: Served, jobs: Publisher) -> None:
    """Each sample of a batch job is answered as a recording of just that part would be."""
    heard = scene(31, NETWORK, 24_000)
    parts = [(0, 10_000), (9_000, 3_000), (4_000, 20_000)]
    job = job_of(heard)
    job["sigmf"]["global"]["heimdall:samples"] = [{"sample_start": s, "sample_count": n} for s, n in parts]
    reply = (await jobs.locate(heard.body(), **job)).json
    for prediction, (start, count) in zip(reply["predictions"], parts, strict=True):
        part = Scene(heard.iq[:, start : start + count], heard.places)
        assert_fix(f"{count} samples from {start}", prediction, served.family.expected(part))


@pytest.mark.parametrize("served", ["slot_net"], indirect=True)
async def test_a_stranger_has_no_slot(served: Served, jobs: Publisher) -> None:
    """A receiver that the fixed network does not know is refused by its name."""
    heard = scene(41, EVERYBODY[6:8])
    answer = await jobs.locate(heard.body(), **job_of(heard))
    assert answer.code == "receiver_mismatch"
    assert "field-0" in answer.json["detail"]


def job_of(heard: Scene) -> dict[str, Any]:
    """What a job says beside its body."""
    return {"sigmf": heard.sigmf(), "headers": {"confidence": CONFIDENCES}}


def assert_fix(name: str, got: dict[str, Any], expected: Expected) -> None:
    """Position within 1 m; covariance, axes and areas of the ellipses within 0.1 %, their direction within 0.1°."""
    assert "position" in got, (name, got)
    assert metres_between(got["position"], expected) < POSITION_TOLERANCE_M, name
    spread = ELLIPSE_TOLERANCE * np.trace(expected.covariance) / 2
    np.testing.assert_allclose(got["covariance_m2"], expected.covariance, rtol=0, atol=spread, err_msg=name)
    variances, directions = np.linalg.eigh(expected.covariance)
    azimuth = np.degrees(np.arctan2(*directions[:, 1])) % 180
    assert [ellipse["confidence"] for ellipse in got["ellipses"]] == CONFIDENCES
    for ellipse in got["ellipses"]:
        axes = np.sqrt(variances[::-1] * -2 * np.log(1 - ellipse["confidence"]))
        found = [ellipse["semi_major_m"], ellipse["semi_minor_m"], ellipse["area_m2"]]
        np.testing.assert_allclose(found, [*axes, np.pi * axes.prod()], rtol=ELLIPSE_TOLERANCE, err_msg=name)
        if axes[0] > 1.01 * axes[1]:
            assert abs((ellipse["azimuth_deg"] - azimuth + 90) % 180 - 90) < 0.1, name


def assert_same(name: str, got: dict[str, Any], other: dict[str, Any]) -> None:
    """Two fixes do not differ but by rounding."""
    place = Expected(other["position"]["latitude"], other["position"]["longitude"], np.eye(2))
    assert metres_between(got["position"], place) < ROUNDING_M, name
    scale = ROUNDING * np.trace(other["covariance_m2"])
    np.testing.assert_allclose(got["covariance_m2"], other["covariance_m2"], rtol=0, atol=scale, err_msg=name)
    assert got["receivers_used"] == other["receivers_used"]


def metres_between(position: dict[str, float], expected: Expected) -> float:
    """Geodesic distance of an answered position from a fix."""
    ellipsoid = Geod(ellps="WGS84")
    distance = ellipsoid.inv(position["longitude"], position["latitude"], expected.longitude, expected.latitude)[2]
    return float(distance)
