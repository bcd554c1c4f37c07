"""The arithmetic that script and peers share."""

from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from bench.models import ModelPlan, build, graph
from bench.recipe import RawJob, Recipe
from bench.workloads import WORKLOADS, Workload
from schemas.result import LocalizationResult


def jobs_of(workload: Workload, count: int) -> list[RawJob]:
    """Some jobs."""
    sigmf = workload.sigmf()
    return [RawJob(f"job-{n}", sigmf, body) for n, body in enumerate(workload.make_bodies(count))]


@pytest.fixture(params=["tiny", "network"])
def workload(request: pytest.FixtureRequest) -> Workload:
    """One with a single receiver, one with seven in slots."""
    return WORKLOADS[request.param]


@pytest.fixture
def recipe(workload: Workload, tmp_path: Path) -> Recipe:
    """With the workload's model."""
    return Recipe(build(workload.plan, tmp_path, jobs_of(workload, 1)[0]))


def test_an_answer_is_a_result_of_the_wire(workload: Workload, recipe: Recipe) -> None:
    """All that a result holds is there, but the digest of the input, which is a promise of the worker alone."""
    for job, answer in zip(jobs_of(workload, 3), recipe.locate(jobs_of(workload, 3)), strict=True):
        document = orjson.loads(answer.result)
        document |= {"input_digest": "blake3:" + 64 * "0"}
        document["timings_ms"] |= {"queue": 0.0, "decode": 0.0, "total": 0.0}
        result = LocalizationResult.model_validate(document)
        assert result.job_id == job.job_id
        assert [r.id for r in result.receivers_used] == [
            r["id"] for r in orjson.loads(job.sigmf)["global"]["heimdall:receivers"]
        ]


def test_the_event_holds_the_result(workload: Workload, recipe: Recipe) -> None:
    """Its envelope is built around the same bytes."""
    answer = recipe.locate(jobs_of(workload, 1))[0]
    assert answer.result in answer.event
    assert orjson.loads(answer.event)["event"] == "localization.complete"


def test_a_batch_answers_as_each_job_alone(workload: Workload, recipe: Recipe) -> None:
    """Positions do not depend on what is computed beside them, and differ between jobs."""
    jobs = jobs_of(workload, 4)
    together = [orjson.loads(answer.result)["position"] for answer in recipe.locate(jobs)]
    for job, position in zip(jobs, together, strict=True):
        alone = orjson.loads(recipe.locate([job])[0].result)["position"]
        assert alone == pytest.approx(position, abs=1e-5)
    assert len({position["latitude"] for position in together}) == 4


def test_the_heavy_model_is_heavy() -> None:
    """Its weights are over 50 MB, those of the others under one; and a plan's figure is that of its graph."""
    weights = {name: known.plan.weight_mib * 2**20 for name, known in WORKLOADS.items()}
    assert weights.pop("heavy") > 50e6
    assert max(weights.values()) < 1e6
    small = ModelPlan("small", 1, 1_024, layers=2, width=256)
    bare = replace(small, layers=0)
    written = len(graph(small).SerializeToString()) - len(graph(bare).SerializeToString())
    assert written == pytest.approx(small.weight_mib * 2**20, rel=0.01)
