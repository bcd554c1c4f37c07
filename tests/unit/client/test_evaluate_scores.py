"""Figures of an evaluation: distances, scores, intervals and conditions."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Geod
from scipy import stats

from client.errors import CaptureError
from client.evaluation.gate import parse_gate
from client.evaluation.geodesic import offset_m
from client.evaluation.intervals import bootstrap, resampled_blocks, wilson
from client.evaluation.report import METRICS
from client.evaluation.scoring import CONFIDENCES, Scores, pit_distance
from worker.geo.wgs84 import wgs84_to_enu

LATITUDES = st.floats(-90, 90)
LONGITUDES = st.floats(-180, 180)


@given(LATITUDES, LONGITUDES, LATITUDES, st.floats(-170, 170))
def test_offset_agrees_with_the_geodesic(latitude: float, longitude: float, other: float, turn: float) -> None:
    """Distance within a millimetre of Karney's, also over the antimeridian and at the poles."""
    east_m, north_m = offset_m(latitude, longitude, other, longitude + turn)
    expected_m = Geod(ellps="WGS84").inv(longitude, latitude, longitude + turn, other)[2]
    assert math.hypot(east_m, north_m) == pytest.approx(expected_m, abs=1e-3)


@given(st.floats(-89, 89), LONGITUDES, st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))
def test_offset_is_what_the_worker_means(latitude: float, longitude: float, up: float, turn: float) -> None:
    """East and north of a nearby point are those of the worker's own frame."""
    point = (latitude, longitude, latitude + up, longitude + turn)
    assert np.allclose(offset_m(*point), wgs84_to_enu(*point), atol=1e-3)


def test_offset_of_the_antipode_is_half_the_earth() -> None:
    """Where Vincenty has no solution the distance is still a distance."""
    east_m, north_m = offset_m(0.0, 0.0, [0.0, 0.3], [180.0, 179.7])
    expected_m = np.array([Geod(ellps="WGS84").inv(0, 0, 180, 0)[2], Geod(ellps="WGS84").inv(0, 0, 179.7, 0.3)[2]])
    assert np.allclose(np.hypot(east_m, north_m), expected_m, rtol=6e-3)


def test_offset_of_the_same_point_is_nothing() -> None:
    """A perfect fix has an error of zero."""
    assert offset_m(45.0, 7.6, 45.0, 7.6) == (0.0, 0.0)


@pytest.fixture(scope="module")
def scores() -> Scores:
    """Errors drawn from the very covariances that are claimed."""
    rng = np.random.default_rng(1)
    factors = np.tril(rng.uniform(20.0, 200.0, (20_000, 2, 2)))
    offset_m_ = (factors @ rng.standard_normal((20_000, 2, 1)))[..., 0]
    return Scores(offset_m_, factors @ factors.swapaxes(1, 2))


def test_honest_ellipses_hold_what_they_say(scores: Scores) -> None:
    """Coverage is the confidence, PIT is uniform, and the mean of d² is 2."""
    for confidence in CONFIDENCES:
        assert scores.covered(confidence).mean() == pytest.approx(confidence, abs=0.012)
    assert pit_distance(scores.pit) < 0.015
    assert scores.squared.mean() == pytest.approx(2.0, abs=0.06)


def test_small_ellipses_are_found_out(scores: Scores) -> None:
    """Sigmas half as large as they should be cover 68 % instead of 99 %: exp(-ln(100)/4)."""
    small = Scores(scores.offset_m, scores.covariance_m2 / 4)
    assert small.covered(0.99).mean() == pytest.approx(1 - 0.01**0.25, abs=0.015)
    assert pit_distance(small.pit) > 0.2


def test_nll_is_that_of_the_normal_distribution(scores: Scores) -> None:
    """As scipy computes it, row by row."""
    rows = range(0, 20_000, 4_000)
    expected = [-stats.multivariate_normal.logpdf(scores.offset_m[i], cov=scores.covariance_m2[i]) for i in rows]
    assert np.allclose(scores.nll[list(rows)], expected)


def test_pit_distance_is_kolmogorov_smirnov() -> None:
    """As scipy computes it."""
    pit = np.random.default_rng(2).beta(2, 3, 200)
    assert pit_distance(pit) == pytest.approx(stats.kstest(pit, "uniform").statistic)


def test_wilson_interval_is_the_published_one() -> None:
    """Newcombe (1998), table I: 81 of 263 and 0 of 20."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    with pytest.raises(ValueError, match="one scene"):
        wilson(0, 0)


def test_blocks_widen_an_interval() -> None:
    """A hundred copies of each of nine scenes tell as much as nine scenes, not as nine hundred."""
    values = np.repeat(np.arange(9.0), 100)

    def mean(rows: np.ndarray) -> float:
        return float(values[rows].mean())

    of_blocks = bootstrap(mean, resampled_blocks(values.tolist()))
    of_scenes = bootstrap(mean, resampled_blocks(range(900)))
    assert of_blocks[1] - of_blocks[0] > 5 * (of_scenes[1] - of_scenes[0])
    assert of_blocks[0] < 4.0 < of_blocks[1]


def test_a_resample_holds_whole_blocks() -> None:
    """Whatever is drawn, a block's scenes come together."""
    blocks = ["a", "b", "a", "c", "b", "a"]
    for rows in resampled_blocks(blocks, resamples=20):
        counts = np.bincount(rows, minlength=6)
        assert counts[0] == counts[2] == counts[5]
        assert counts[1] == counts[4]


@pytest.mark.parametrize(
    ("text", "coverage90", "fails"),
    [
        ("coverage90<0.8", 0.79, True),
        ("coverage90<0.8", 0.8, False),
        (" coverage90 <= .8 ", 0.8, True),
        ("coverage90>9e-1", 0.95, True),
        ("coverage90>=0.95", 0.9, False),
        ("coverage90==0.5", 0.5, True),
        ("coverage90!=0.5", 0.5, False),
        ("coverage90<0.1", math.nan, True),
    ],
)
def test_condition_holds(text: str, coverage90: float, *, fails: bool) -> None:
    """Every comparator does what it says; a figure that is missing fails."""
    assert parse_gate(text, METRICS).fails({"coverage90": coverage90}) is fails


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("coverage90", "METRIC COMPARATOR NUMBER"),
        ("coverage90<p90_m", "METRIC COMPARATOR NUMBER"),
        ("coverage90<0.8; n>3", "METRIC COMPARATOR NUMBER"),
        ("__import__('os')", "METRIC COMPARATOR NUMBER"),
        ("coverage<0.8", "no figure is called 'coverage'; there are n, failed, median_m"),
    ],
)
def test_other_conditions_are_refused(text: str, said: str) -> None:
    """The message says what would be right."""
    with pytest.raises(CaptureError) as caught:
        parse_gate(text, METRICS)
    assert said in str(caught.value)
