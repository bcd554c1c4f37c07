import asyncio
from collections import Counter
from dataclasses import dataclass, field, replace

import pytest

from schemas.result import LocalizationResult
from tests.support.graphs import Shape, load, tone
from tests.unit.amqp.messages import sigmf_message
from worker.amqp.delivery import read_delivery
from worker.errors import Unavailable
from worker.locating import Locator
from worker.pipeline import Pipeline
from worker.serving.model import Models
from worker.serving.rollout import Rollout
from worker.telemetry.metrics import Metrics
from worker.trial import Trial

MAX_BATCH = 4
LOUD = tone(0, amplitude=1000.0)
FAILS = Shape(fails_above=0.0)


class Session:
    """A session that holds every delivery until it is settled."""

    def __init__(self):
        self.lost = asyncio.Event()
        self.settled = set()

    def holds(self, message):
        """Whether it is still to be settled."""
        return message.message_id not in self.settled


@dataclass
class Settler:
    """Notes what would be answered, or given back."""

    answered: dict = field(default_factory=dict)
    released: list = field(default_factory=list)
    error: Exception | None = None

    async def settle(self, jobs):
        """Answer."""
        for job in jobs:
            if self.error is not None:
                raise self.error
            assert job.job_id not in self.answered, "answered twice"
            self.answered[job.job_id] = job
            job.delivery.session.settled.add(job.job_id)

    async def release(self, jobs):
        """Give back."""
        self.released += [job.job_id for job in jobs]


@dataclass
class Outcomes:
    """A store that holds what it is given, and answers late."""

    stored: dict = field(default_factory=dict)
    starts: Counter = field(default_factory=Counter)
    error: Exception | None = None

    async def lookup(self, job_ids):
        """What it holds."""
        await asyncio.sleep(0.01)
        if self.error is not None:
            raise self.error
        return {job_id: self.stored[job_id] for job_id in job_ids if job_id in self.stored}

    async def count_suspect(self, job_id):
        """Once more."""
        self.starts[job_id] += 1
        return self.starts[job_id]

    async def forgive_suspects(self, job_ids):
        """Once less."""
        self.starts.subtract(job_ids)


@dataclass
class Shadow:
    """Notes what it is offered."""

    offered: list = field(default_factory=list)

    def offer(self, jobs, version):
        """Take it."""
        self.offered.append(([job.job_id for job in jobs], version.label))


class Line:
    """A pipeline with real models, and stand-ins for what is beyond it."""

    def __init__(self):
        self.session = Session()
        self.settler = Settler()
        self.shadow = Shadow()
        self.metrics = Metrics()
        self.models = Models(lambda _: None)
        self.failed = []
        self.trial = Trial(self.fail, self.metrics)
        self.outcomes = Outcomes()
        self.locator = Locator(None, self.metrics, MAX_BATCH)
        self.pipeline = Pipeline(
            self.models,
            self.outcomes,
            self.locator,
            self.settler,
            self.trial,
            self.shadow,
            self.metrics,
            max_batch_size=MAX_BATCH,
            stale_after_s=10.0,
        )

    async def fail(self, version, reason):
        """Note it, and drop it as the swapper does."""
        self.failed.append(version.label)
        self.models.drop(version)

    async def run(self, *names, deliveries=0):
        """One micro-batch of loud recordings, delivered so many times before."""
        headers = {"x-delivery-count": deliveries} if deliveries else {}
        messages = [
            sigmf_message(1, message_id=name, body=LOUD, headers=headers, redelivered=deliveries > 0) for name in names
        ]
        await self.pipeline.run([read_delivery(self.session, m, 10_000_000) for m in messages], lambda: None)

    @property
    def runs(self):
        """How often version 7 was run, and on how many samples together."""
        sample = self.metrics.registry.get_sample_value
        return sample("heimdall_onnx_runs_total", {"version": "7"}), sample("heimdall_run_size_sum")

    def result(self, name):
        """The answer of a job, which is a result."""
        return LocalizationResult.model_validate_json(self.settler.answered[name].outcome.body)


@pytest.fixture
async def line():
    """A pipeline of its own."""
    made = Line()
    yield made
    await made.trial.close()
    made.locator.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Makes folders."""
    return lambda: tmp_path_factory.mktemp("model")


@pytest.fixture(scope="module")
def good(folder):
    """A version that locates."""
    return load(folder())


@pytest.fixture(scope="module")
def bad(folder):
    """A version that fails on whatever is loud."""
    return load(folder(), FAILS, version="8")


def names(count, start=0):
    """Names of jobs."""
    return [f"j{start + number}" for number in range(count)]


async def test_what_a_canary_fails_on_is_answered_by_production(line, good, bad):
    """Nobody notices but the operator: each job has its result, and the canary goes."""
    line.models.replace(Rollout(good, replace(bad, record=replace(bad.record, alias="canary")), 100.0))
    await line.run(*names(4))
    assert {line.result(name).model_version for name in names(4)} == {"7"}
    assert line.failed == []
    await line.run(*names(4, 4))
    await asyncio.sleep(0)
    assert {line.result(name).model_version for name in names(8)} == {"7"}
    assert line.failed == ["8"]
    assert line.models.current.canary is None
    assert line.metrics.registry.get_sample_value("heimdall_canary_reruns_total") == 8


async def test_a_canary_that_works_answers(line, good, folder):
    """With its own version in the reply, and no second run."""
    canary = load(folder(), Shape(position=(45.5, 7.6)), version="9")
    line.models.replace(Rollout(good, canary, 100.0))
    await line.run("j0")
    assert line.result("j0").model_version == "9"
    assert line.metrics.registry.get_sample_value("heimdall_canary_reruns_total") == 0


async def test_an_input_on_which_production_fails_too_blames_no_canary(line, bad, folder):
    """The job has an error, as it would have had without a canary."""
    other = load(folder(), FAILS, version="9")
    line.models.replace(Rollout(bad, other, 100.0))
    await line.run(*names(7))
    await asyncio.sleep(0)
    assert {job.outcome.error for job in line.settler.answered.values()} == {"inference_failed"}
    assert "9" not in line.failed


async def test_what_production_refuses_is_no_failure_of_production(line, bad, folder):
    """The canary failed on it; production takes only longer recordings, and is not to blame."""
    strict = load(folder(), min_samples=1_000_000)
    line.models.replace(Rollout(strict, bad, 100.0))
    async with asyncio.timeout(20):
        for batch in range(4):
            await line.run(*names(4, 4 * batch))
    await asyncio.sleep(0)
    assert {job.outcome.error for job in line.settler.answered.values()} == {"too_few_samples"}
    assert line.failed == []


async def test_jobs_of_production_at_fault_are_kept_until_another_version_serves(line, good, bad):
    """The third bad batch is not answered with the model's failures, but computed again."""
    line.models.replace(Rollout(bad))
    for start in (0, 4):
        await line.run(*names(4, start))
    kept = asyncio.create_task(line.run(*names(4, 8)))
    await asyncio.sleep(0.2)
    assert not kept.done()
    assert set(line.settler.answered) == set(names(8))
    assert line.failed == ["8"]
    line.models.replace(Rollout(good))
    async with asyncio.timeout(20):
        await kept
    assert {line.result(name).model_version for name in names(4, 8)} == {"7"}
    assert line.settler.released == []


async def test_a_suspect_that_is_kept_is_not_blamed_for_it(line, good, bad):
    """It is begun anew without having killed the worker, however many versions are at fault before one serves."""
    line.models.replace(Rollout(bad))
    for start in (0, 4):
        await line.run(*names(4, start))
    kept = asyncio.create_task(line.run("suspect", deliveries=2))
    await asyncio.sleep(0.2)
    assert not kept.done()
    assert line.outcomes.starts["suspect"] == 0
    line.models.replace(Rollout(good))
    async with asyncio.timeout(20):
        await kept
    assert line.result("suspect").model_version == "7"
    assert line.outcomes.starts["suspect"] == 1


async def test_kept_jobs_of_a_lost_session_are_left_to_the_broker(line, good, bad):
    """They come again by another session; what is computed twice is not answered twice."""
    line.models.replace(Rollout(bad))
    for start in (0, 4):
        await line.run(*names(4, start))
    kept = asyncio.create_task(line.run(*names(4, 8)))
    await asyncio.sleep(0.2)
    line.session.lost.set()
    line.models.replace(Rollout(good))
    async with asyncio.timeout(20):
        await kept
    assert set(line.settler.answered) == set(names(8))


async def test_the_shadow_is_offered_what_production_answered(line, good, folder):
    """After it is answered; the canary's own answers are compared with nothing."""
    shadow, canary = load(folder(), version="9"), load(folder(), version="10")
    line.models.replace(Rollout(good, None, 0.0, shadow))
    await line.run("j0")
    assert line.shadow.offered == [(["j0"], "9")]
    line.models.replace(Rollout(good, canary, 100.0, shadow))
    await line.run("j1")
    assert line.shadow.offered[1:] in ([], [([], "9")])


async def test_what_is_stored_is_answered_without_a_run(line, good):
    """The model runs on the others alone, and on none where all are known; what is stored is what is answered."""
    line.models.replace(Rollout(good))
    await line.run("j0", "j1")
    assert line.runs == (1, 2)
    line.outcomes.stored = {name: line.settler.answered.pop(name).outcome.body for name in ("j0", "j1")}
    line.session.settled.clear()
    await line.run("j0", "j2")
    assert line.runs == (2, 3)
    assert line.settler.answered["j0"].outcome.body == line.outcomes.stored["j0"]
    assert not line.settler.answered["j0"].outcome.fresh
    assert line.settler.answered["j2"].outcome.fresh
    await line.run("j1")
    assert line.runs == (2, 3)
    assert line.settler.answered["j1"].outcome.body == line.outcomes.stored["j1"]


async def test_what_is_stored_of_other_input_is_a_conflict(line, good):
    """And the model is not run for it."""
    line.models.replace(Rollout(good))
    await line.run("j0")
    line.outcomes.stored = {"j1": line.settler.answered["j0"].outcome.body.replace(b"blake3:", b"blake3:0")}
    await line.run("j1")
    assert line.settler.answered["j1"].outcome.error == "job_id_conflict"
    assert line.runs == (1, 1)


async def test_without_the_store_nothing_is_run(line, good):
    """What was answered before must not be computed again, and that nobody knows."""
    line.models.replace(Rollout(good))
    line.outcomes.error = Unavailable("away")
    await line.run("j0", "j1")
    assert line.settler.released == ["j0", "j1"]
    assert line.runs[0] in {None, 0.0}


async def test_jobs_that_cannot_be_settled_go_back(line, good):
    """A store or a broker that is away releases the batch."""
    line.models.replace(Rollout(good))
    line.settler.error = Unavailable("away")
    await line.run("j0", "j1")
    assert line.settler.released == ["j0", "j1"]


async def test_a_bug_harms_one_job(line, good):
    """A batch that breaks is tried job by job, and a job that breaks again ends as internal."""
    line.models.replace(Rollout(good))
    settle, broken = line.settler.settle, []

    async def breaks(jobs):
        if any(job.job_id == "j1" and job.error is None for job in jobs):
            broken.append(len(jobs))
            raise KeyError("bug")
        await settle(jobs)

    line.settler.settle = breaks
    await line.run("j0", "j1", "j2")
    assert broken == [3, 1]
    codes = {
        name: job.outcome.error if job.outcome else str(job.error.code) for name, job in line.settler.answered.items()
    }
    assert codes == {"j0": None, "j1": "internal", "j2": None}
