import asyncio
from weakref import ref

import pytest

from tests.support.graphs import record
from worker.errors import InferenceFailed, NonFiniteIq
from worker.job import Job, Sample
from worker.serving.rollout import Rollout
from worker.telemetry.metrics import Metrics
from worker.trial import Trial, VersionAtFault


class Version:
    """A version that is only looked at."""

    def __init__(self, name):
        self.record = record("sha256:0", version=name)
        self.label = name


class Desk:
    """A trial, and what was told as failed; a rollback ends when it is let go."""

    def __init__(self):
        self.failed = []
        self.gate = asyncio.Event()
        self.metrics = Metrics()
        self.trial = Trial(self.fail, self.metrics)
        self.rollout = Rollout(Version("1"), Version("2"), 50.0)

    async def fail(self, version, reason):
        """Note it, and take a while."""
        self.failed.append((version.label, reason))
        await self.gate.wait()

    def production(self, *errors):
        """A batch of production with one sample per error."""
        return [job(self.rollout.primary, error) for error in errors]

    def failures(self, version):
        """Samples counted as failed on it."""
        return self.metrics.registry.get_sample_value("heimdall_model_failures_total", {"version": version})


@pytest.fixture
async def desk():
    """A desk of its own."""
    return Desk()


def job(version, error=None):
    """A job with one sample."""
    made = Job(None, version=version)
    made.samples = [Sample(ref(made), 0, error=error)]
    return made


def bad():
    """The model failed."""
    return InferenceFailed("NaN")


async def test_production_at_fault_keeps_its_jobs(desk):
    """The batch that shows it raises, with the roll-out to wait for the end of, and a rollback begins."""
    batch = desk.production(*[bad()] * 4)
    desk.trial.judge_production(batch, desk.rollout)
    desk.trial.judge_production(batch, desk.rollout)
    with pytest.raises(VersionAtFault, match="version 1 is at fault") as fault:
        desk.trial.judge_production(batch, desk.rollout)
    assert fault.value.rollout is desk.rollout
    await asyncio.sleep(0)
    assert desk.failed == [("1", "most items of 3 batches in a row failed (12 items)")]
    assert desk.failures("1") == 12


async def test_a_rollback_begins_once_and_again_only_when_it_has_ended(desk):
    """Batches that are under way keep their jobs too, and start no second one."""
    batch = desk.production(*[bad()] * 8)
    for number in range(6):
        if number < 2:
            desk.trial.judge_production(batch, desk.rollout)
        else:
            with pytest.raises(VersionAtFault):
                desk.trial.judge_production(batch, desk.rollout)
    await asyncio.sleep(0)
    assert len(desk.failed) == 1
    desk.gate.set()
    await asyncio.sleep(0.01)
    with pytest.raises(VersionAtFault):
        desk.trial.judge_production(batch, desk.rollout)
    await asyncio.sleep(0)
    assert len(desk.failed) == 2


async def test_bad_inputs_and_other_versions_do_not_blame_production(desk):
    """Errors of the jobs themselves, and jobs of the canary, are none of its failures."""
    jobs = desk.production(*[NonFiniteIq("NaN")] * 20) + [job(desk.rollout.canary, bad()) for _ in range(20)]
    for _ in range(10):
        desk.trial.judge_production(jobs, desk.rollout)
    desk.trial.judge_production([], desk.rollout)
    assert desk.failed == []
    assert desk.failures("1") == 0


async def test_a_canary_that_fails_is_rolled_back_once(desk):
    """By samples that production then located; the batch itself goes on."""
    canary = desk.rollout.canary
    desk.trial.judge_canary(canary, 10, 4)
    assert desk.failed == []
    desk.trial.judge_canary(canary, 10, 1)
    desk.trial.judge_canary(canary, 10, 1)
    await asyncio.sleep(0)
    assert desk.failed == [("2", "5 of its last 20 items failed where production did not")]
    assert desk.failures("2") == 6


async def test_a_version_that_retired_is_forgotten(desk):
    """If it comes back, it begins anew."""
    canary, batch = desk.rollout.canary, desk.production(*[bad()] * 8)
    desk.trial.judge_canary(canary, 4, 4)
    desk.trial.judge_production(batch, desk.rollout)
    desk.trial.judge_production(batch, desk.rollout)
    desk.trial.forget(canary)
    desk.trial.forget(desk.rollout.primary)
    desk.trial.forget(Version("9"))
    desk.trial.judge_canary(canary, 1, 1)
    desk.trial.judge_production(batch, desk.rollout)
    await asyncio.sleep(0)
    assert desk.failed == []


async def test_the_end_does_not_wait_for_a_rollback(desk):
    """A registry that hangs holds no worker up."""
    canary = desk.rollout.canary
    desk.trial.judge_canary(canary, 5, 5)
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await desk.trial.close()
    assert len(desk.failed) == 1
