import asyncio

import pytest
from structlog.testing import capture_logs

from tests.support.graphs import Shape, load, tone
from tests.unit.amqp.messages import sigmf_message
from worker.amqp.delivery import read_delivery
from worker.compute import prepare_runs, read_jobs
from worker.geo.wgs84 import metres_per_degree
from worker.job import Job
from worker.results import decode_rows, encode_results
from worker.serving.rollout import Rollout
from worker.shadow import Shadow
from worker.telemetry.metrics import Metrics


@pytest.fixture(scope="module")
def production(tmp_path_factory):
    """Answers 45, 7.6 and a little, with 0.01° and 0.02°."""
    return load(tmp_path_factory.mktemp("production"))


@pytest.fixture(scope="module")
def candidate(tmp_path_factory):
    """Answers 0.01° further north, with twice the sigma there."""
    shape = Shape(position=(45.01, 7.6), uncertainty=(0.02, 0.02))
    return load(tmp_path_factory.mktemp("candidate"), shape, version="8")


def answered(version, *messages):
    """Jobs that were located and have their outcomes."""
    jobs = [Job(read_delivery(object(), message, 10_000_000)) for message in messages]
    read_jobs(jobs, Rollout(version), caching=False)
    for run in prepare_runs([sample for job in jobs for sample in job.samples], 8):
        run.compute()
    decode_rows(jobs)
    encode_results(jobs, stale_after_s=10.0)
    return jobs


class Desk:
    """A shadow with its metrics."""

    def __init__(self):
        self.metrics = Metrics()
        self.loaded = False
        self.shadow = Shadow(self.metrics, 8, lambda: self.loaded)

    async def compare(self, jobs, version):
        """Offer, and wait for the end."""
        self.shadow.offer(jobs, version)
        if self.shadow._task is not None:
            await self.shadow._task

    def value(self, name, **labels):
        """A sample of the metrics."""
        return self.metrics.registry.get_sample_value(name, labels) or 0

    def counts(self):
        """Samples compared, failed and dropped."""
        return tuple(self.value("heimdall_shadow_samples_total", result=r) for r in ("compared", "failed", "dropped"))


@pytest.fixture
async def desk():
    """A desk of its own."""
    made = Desk()
    yield made
    await made.shadow.close()


async def test_the_divergence_is_measured(desk, production, candidate):
    """0.01° north of a sigma of 0.01°: 1.1 km, one sigma, twice the area."""
    await desk.compare(answered(production, sigmf_message(1)), candidate)
    north, _ = metres_per_degree(45.0)
    assert desk.counts() == (1, 0, 0)
    assert desk.value("heimdall_shadow_distance_meters_sum") == pytest.approx(0.01 * float(north), rel=1e-3)
    assert desk.value("heimdall_shadow_mahalanobis_sum") == pytest.approx(1.0, rel=1e-3)
    assert desk.value("heimdall_shadow_area_ratio_sum") == pytest.approx(2.0, rel=1e-3)


async def test_a_version_does_not_differ_from_itself(desk, production):
    """The same model beside itself: no distance, the same area."""
    messages = [sigmf_message(1, seed=seed, message_id=f"j{seed}") for seed in range(4)]
    await desk.compare(answered(production, *messages), production)
    assert desk.counts() == (4, 0, 0)
    assert desk.value("heimdall_shadow_distance_meters_sum") == pytest.approx(0.0, abs=1e-3)
    assert desk.value("heimdall_shadow_area_ratio_sum") == pytest.approx(4.0)


async def test_the_jobs_are_not_touched(desk, production, candidate):
    """What was answered stays as it was: version, rows, fixes and bodies."""
    jobs = answered(production, sigmf_message(1))
    job = jobs[0]
    before = (job.version, job.outcome, job.outcome.body, job.samples[0], job.samples[0].fix, job.samples[0].row)
    await desk.compare(jobs, candidate)
    after = (job.version, job.outcome, job.outcome.body, job.samples[0], job.samples[0].fix, job.samples[0].row)
    assert all(a is b for a, b in zip(after, before, strict=True))
    assert job.error is None


async def test_what_comes_while_it_is_busy_or_under_load_is_dropped(desk, production, candidate):
    """Nothing queues up behind a shadow."""
    jobs = answered(production, sigmf_message(1))
    desk.loaded = True
    desk.shadow.offer(jobs, candidate)
    assert desk.counts() == (0, 0, 1)
    desk.loaded = False
    desk.shadow.offer(jobs, candidate)
    desk.shadow.offer(jobs, candidate)
    assert desk.counts() == (0, 0, 2)
    await desk.shadow._task
    assert desk.counts() == (1, 0, 2)
    await desk.compare(jobs, candidate)
    assert desk.counts() == (2, 0, 2)


async def test_jobs_without_a_fix_are_not_offered(desk, production, candidate):
    """There is nothing to compare with."""
    jobs = answered(production, sigmf_message(1, body=b"123"))
    assert jobs[0].error is not None
    desk.shadow.offer(jobs, candidate)
    desk.shadow.offer([], candidate)
    assert desk.shadow._task is None
    assert desk.counts() == (0, 0, 0)


async def test_a_sample_without_an_answer_counts_as_failed(desk, production, tmp_path):
    """NaN, and a job that the shadow's contract refuses."""
    (tmp_path / "nan").mkdir()
    (tmp_path / "long").mkdir()
    nan = load(tmp_path / "nan", Shape(position=(float("nan"), 7.6)), version="8")
    longer = load(tmp_path / "long", version="9", min_samples=10_000)
    jobs = answered(production, sigmf_message(1))
    await desk.compare(jobs, nan)
    assert desk.counts() == (0, 1, 0)
    await desk.compare(jobs, longer)
    assert desk.counts() == (0, 2, 0)


async def test_a_shadow_that_breaks_is_logged_and_no_more(desk, production, tmp_path):
    """A run that fails raises nowhere, and the next comparison runs."""
    broken = load(tmp_path, Shape(fails_above=0.0), version="8")
    jobs = answered(production, sigmf_message(1, body=tone(0, amplitude=1000.0)))
    with capture_logs() as logs:
        await desk.compare(jobs, broken)
    assert [(entry["event"], entry["version"]) for entry in logs] == [("shadow.failed", "8")]
    assert desk.counts() == (0, 1, 0)
    await desk.compare(jobs, production)
    assert desk.counts() == (1, 1, 0)


async def test_the_end_does_not_wait_for_a_comparison(desk, production, candidate, monkeypatch):
    """A worker that stops leaves it undone."""
    begun = asyncio.Event()

    async def never(*_):
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(desk.shadow._stage, "run", never)
    desk.shadow.offer(answered(production, sigmf_message(1)), candidate)
    await begun.wait()
    async with asyncio.timeout(5):
        await desk.shadow.close()
    assert desk.counts() == (0, 0, 0)
