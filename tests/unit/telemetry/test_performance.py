import numpy as np
import pytest

from worker.telemetry.performance import Performance


def test_percentiles_are_of_the_jobs_latencies():
    """Milliseconds, and the number of samples located."""
    performance = Performance()
    seconds = np.random.default_rng(1).uniform(0.001, 0.1, 500)
    for value in seconds:
        performance.record("1", float(value), 3)
    summary = performance.summary("1")
    assert summary["inference_count"] == 1500
    for percent in (50, 95, 99):
        assert summary[f"latency_p{percent}_ms"] == pytest.approx(1000 * np.percentile(seconds, percent), abs=1e-3)


def test_before_the_first_job_there_are_no_figures():
    """None, not zero."""
    assert Performance().summary("1") == {
        "inference_count": 0,
        "latency_p50_ms": None,
        "latency_p95_ms": None,
        "latency_p99_ms": None,
    }


def test_only_the_last_jobs_are_remembered():
    """Memory is bounded: ten thousand slow jobs push out what came before."""
    performance = Performance()
    performance.record("1", 1000.0, 1)
    for _ in range(10_000):
        performance.record("1", 0.001, 1)
    assert performance.summary("1")["latency_p99_ms"] == 1.0
    assert performance.summary("1")["inference_count"] == 10_001


def test_a_retired_version_is_forgotten():
    """Its figures go, those of the others stay."""
    performance = Performance()
    performance.record("1", 1.0, 1)
    performance.record("2", 1.0, 1)
    performance.retire("1")
    performance.retire("never")
    assert performance.summary("1")["inference_count"] == 0
    assert performance.summary("2")["inference_count"] == 1
