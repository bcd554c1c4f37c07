"""Histograms of latencies."""

import numpy as np
import pytest

from bench.latency import curve, encoded, merged, percentile_ms, recorded


def test_merged_histograms_are_those_of_all_latencies() -> None:
    """Merging what several runs encoded loses nothing."""
    rng = np.random.default_rng(3)
    parts = [rng.exponential(0.02, 500).tolist() for _ in range(3)]
    together = merged([encoded(recorded(part)) for part in parts])
    at_once = recorded([latency for part in parts for latency in part])
    assert together.get_total_count() == 1500
    for percent in (50, 95, 99, 100):
        assert percentile_ms(together, percent) == percentile_ms(at_once, percent)


@pytest.mark.parametrize("percent", [50, 95, 99])
def test_percentiles_have_three_figures(percent: int) -> None:
    """A percentile is that of the latencies to 0.1 %."""
    latencies = np.arange(1, 10_001) / 10_000.0
    exact_ms = 1000 * np.percentile(latencies, percent, method="inverted_cdf")
    assert percentile_ms(recorded(latencies.tolist()), percent) == pytest.approx(exact_ms, rel=1e-3)


def test_endless_latencies_count_as_the_longest() -> None:
    """A latency beyond the range is not lost."""
    assert percentile_ms(recorded([1000.0]), 100) == pytest.approx(60_000, rel=1e-3)


def test_curve_rises_to_one() -> None:
    """The distribution reaches all jobs, and is empty where there are none."""
    latency_ms, fraction = curve(recorded([0.001, 0.002, 0.004]))
    assert latency_ms == sorted(latency_ms)
    assert fraction[-1] == 1.0
    assert curve(recorded([])) == ([], [])
