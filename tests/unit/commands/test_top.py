"""Figures of `heimdall top`, from two readings of a worker's metrics."""

import math

import pytest
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.parser import text_string_to_metric_families

from schemas.control import CommandReply
from worker.commands.top_figures import figures, histogram_quantile, read_metrics
from worker.commands.top_sources import _joined
from worker.telemetry.metrics import Metrics


def reading(metrics: Metrics, at: float):
    """What the worker's page says now."""
    return read_metrics(metrics.render().decode(), at)


def test_figures_of_a_worker() -> None:
    """Rates per second between two readings, and what is served."""
    metrics = Metrics()
    metrics.worker.labels("w-1").set(1)
    metrics.model.labels("heimdall", "7", "production").set(1)
    metrics.consuming.set(1)
    metrics.in_flight.set(3)
    metrics.jobs.labels("result").inc(1000)
    before = reading(metrics, 10.0)
    metrics.jobs.labels("result").inc(30)
    metrics.jobs.labels("error").inc(10)
    for _ in range(30):
        metrics.job.labels("7").observe(0.015)
    found = figures(before, reading(metrics, 12.0))
    assert (found.jobs_per_s, found.errors_per_s, found.in_flight) == (20.0, 5.0, 3)
    assert (dict(found.serving), found.consuming, found.name) == ({"production": "7"}, True, "w-1")
    assert 10 < found.p95_ms <= 20


def test_a_worker_that_answers_and_is_measured_is_one_row() -> None:
    """By the name that its answers and its metrics share; one that is only measured has a row of its own."""
    answer = CommandReply(
        command_id="c", command="info", instance="w-1", ok=True, detail="", state="serving", serving=[]
    )
    measured = {}
    for name in ("w-1", "w-2"):
        metrics = Metrics()
        metrics.worker.labels(name).set(1)
        page = reading(metrics, 1.0)
        measured[f"http://{name}:8080"] = figures(page, page)
    rows = _joined({"w-1": answer}, measured)
    assert [(row.name, row.state) for row in rows] == [("w-1", "serving"), ("w-2", "takes none")]
    assert [row.measured for row in rows] == list(measured.values())


def test_a_restart_counts_from_zero() -> None:
    """A counter that went back is a new process."""
    old, new = Metrics(), Metrics()
    for _ in range(50):
        old.jobs.labels("result").inc()
        old.job.labels("1").observe(20.0)
    new.jobs.labels("result").inc(4)
    new.job.labels("1").observe(0.015)
    found = figures(reading(old, 0.0), reading(new, 2.0))
    assert found.jobs_per_s == 2.0
    assert found.p95_ms < 30


def test_the_first_look_has_no_rates() -> None:
    """There is nothing to count from."""
    metrics = Metrics()
    metrics.jobs.labels("result").inc(5)
    first = reading(metrics, 1.0)
    found = figures(first, first)
    assert (found.jobs_per_s, found.p95_ms) == (0.0, None)


def test_a_page_that_is_no_worker_s() -> None:
    """Somebody else's metrics, or none at all."""
    with pytest.raises(ValueError, match="no metrics of a Heimdall worker"):
        read_metrics("up 1\n", 0.0)
    with pytest.raises(ValueError, match=r"."):
        read_metrics("<html>", 0.0)


def test_the_quantile_of_a_histogram() -> None:
    """Within the bucket that holds it, and the last finite bound where it lies beyond."""
    assert histogram_quantile(0.5, {}) is None
    assert histogram_quantile(0.5, {1.0: 0.0, math.inf: 0.0}) is None
    assert histogram_quantile(0.5, {1.0: 0.0, 3.0: 4.0, math.inf: 4.0}) == 2.0
    assert histogram_quantile(0.95, {1.0: 1.0, 3.0: 2.0, math.inf: 100.0}) == 3.0


def test_versions_of_one_worker_are_taken_together() -> None:
    """Buckets of several series add up."""
    registry = CollectorRegistry()
    histogram = Histogram("h", "", ["version"], buckets=(1.0, 2.0), registry=registry)
    histogram.labels("1").observe(0.5)
    histogram.labels("2").observe(1.5)
    text = Metrics().render().decode() + "".join(
        f'{s.name}{{le="{s.labels["le"]}",version="{s.labels["version"]}"}} {s.value}\n'
        for family in registry.collect()
        for s in family.samples
        if s.name == "h_bucket"
    )
    assert list(text_string_to_metric_families(text))
    assert read_metrics(text, 0.0).buckets("h") == {1.0: 1.0, 2.0: 2.0, math.inf: 2.0}
