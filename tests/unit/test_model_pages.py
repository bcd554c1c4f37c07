import orjson
import pytest

from schemas.time import parse_datetime_ns
from tests.support.graphs import load
from worker.model_pages import ModelPages
from worker.serving.model import Models
from worker.serving.rollout import Rollout
from worker.telemetry.metrics import Metrics
from worker.telemetry.performance import Performance


@pytest.fixture
def models():
    """A holder of nothing yet."""
    return Models(lambda _: None)


@pytest.fixture
def performance():
    """Latencies."""
    return Performance()


@pytest.fixture
def pages(models, performance):
    """Pages of these."""
    return ModelPages(models, performance, Metrics())


def test_before_a_model_serves_the_pages_are_empty(pages):
    """A page is an answer, not an error."""
    assert pages.info() == {"model": None}
    assert pages.versions() == []
    assert pages.performance() == []


def test_the_pages_show_what_serves(pages, models, performance, tmp_path):
    """Version, contract figures and card of production, and the figures of every version, as JSON."""
    first, second = tmp_path / "1", tmp_path / "2"
    first.mkdir()
    second.mkdir()
    models.replace(Rollout(load(first), canary=load(second, version="8"), canary_weight=5.0))
    performance.record("7", 0.25, 3)
    info = orjson.loads(orjson.dumps(pages.info()))
    assert info["model"].items() >= {"name": "heimdall", "version": "7", "alias": "production"}.items()
    assert info["model"]["mlflow_run_id"] == "r"
    assert info["model"]["created_at"] == "2023-11-14T22:13:20.000000000Z"
    assert parse_datetime_ns(info["model"]["last_reloaded"]) == models.current.primary.loaded_ns
    assert info["model"]["training_samples"] == 12
    assert (info["sample_rate"], info["min_samples"], info["level"]) == (48_000.0, 160, "dbfs")
    assert info["card"]["licence"] == "none"
    assert [version["version"] for version in pages.versions()] == ["7", "8"]
    figures = orjson.loads(orjson.dumps(pages.performance()))
    assert [(f["inference_count"], f["latency_p50_ms"]) for f in figures] == [(3, 250.0), (0, None)]
    assert all(f["cache_hit_rate"] == 0 for f in figures)
