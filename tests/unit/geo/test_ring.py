import math

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.rfc7946 import assert_exterior_ring, decimals
from worker.geo.ring import (
    MAX_SEMI_AXIS_M,
    antimeridian_crossings,
    bounding_boxes,
    coordinate_decimals,
    ellipse_rings,
    round_degrees,
)
from worker.geo.wgs84 import geodesic_distance_m, wgs84_to_enu


def ring(latitude, longitude, major, minor, azimuth, *, places=None):
    """One ring, (65, 2)."""
    minor_m = np.array([minor])
    digits = coordinate_decimals(minor_m) if places is None else np.array([places])
    axes = np.array([[major, minor, azimuth]])
    return ellipse_rings(np.array([latitude]), np.array([longitude]), axes, digits)[0]


@given(
    latitude=st.floats(-80, 80),
    longitude=st.floats(-180, 180),
    major=st.floats(10, 50e3),
    ratio=st.floats(0.01, 1),
    azimuth=st.floats(0, 180, exclude_max=True),
)
def test_vertices_lie_on_the_ellipse(latitude, longitude, major, ratio, azimuth):
    """Every vertex, measured back from the fix, fulfils the equation of the ellipse about its azimuth."""
    outline = ring(latitude, longitude, major, major * ratio, azimuth, places=13)
    east, north = wgs84_to_enu(latitude, longitude, outline[:, 1], outline[:, 0])
    turn = math.radians(azimuth)
    along = east * math.sin(turn) + north * math.cos(turn)
    across = east * math.cos(turn) - north * math.sin(turn)
    assert np.hypot(along / major, across / (major * ratio)) == pytest.approx(1, abs=1e-6)


def test_ring_reaches_furthest_along_its_azimuth():
    """An ellipse of azimuth 45 reaches to the north-east, not to the north-west."""
    outline = ring(0.0, 0.0, 1000.0, 10.0, 45.0)
    northmost = outline[np.argmax(outline[:, 1])]
    assert northmost == pytest.approx([1000 / math.sqrt(2) / 111_319.5, 1000 / math.sqrt(2) / 110_574.3], abs=1e-6)


@settings(max_examples=200)
@given(
    latitude=st.floats(-70, 70),
    longitude=st.floats(-170, 170),
    minor_exponent=st.floats(-6, 3),
    ratio_exponent=st.floats(0, 6),
    azimuth=st.floats(0, 180, exclude_max=True),
)
def test_rounded_ring_stays_simple_and_counter_clockwise(latitude, longitude, minor_exponent, ratio_exponent, azimuth):
    """From a micrometre up, and drawn out a million times, a rounded ring is closed, simple and counter-clockwise."""
    minor = 10**minor_exponent
    major = min(minor * 10**ratio_exponent, 100 * minor + 10e3 * math.sqrt(minor))
    outline = ring(latitude, longitude, major, minor, azimuth)
    assert_exterior_ring(outline.tolist())
    polygon = shapely.Polygon(outline)
    assert polygon.is_valid
    assert polygon.contains(shapely.Point(longitude, latitude))


@pytest.mark.parametrize(
    ("semi_minor_m", "expected"), [(1e4, 6), (5.6, 6), (5.5, 7), (0.56, 7), (0.01, 9), (1e-6, 13), (0.0, 13)]
)
def test_small_ellipses_get_more_decimals(semi_minor_m, expected):
    """Six decimals do down to 5.6 m; below, the grid stays at most a fiftieth of the semi-minor axis."""
    assert coordinate_decimals(np.array([semi_minor_m])).tolist() == [expected]


def test_rounding_gives_the_nearest_float_of_the_decimal():
    """Rounded degrees print with no more than their decimals, and no negative zero."""
    degrees = np.random.default_rng(5).uniform(-180, 180, (4, 500))
    places = np.array([6, 7, 9, 12])
    rounded = round_degrees(degrees, places[:, None])
    assert all(decimals(x) <= p for row, p in zip(rounded.tolist(), places, strict=True) for x in row)
    assert np.abs(rounded - degrees).max(axis=1) == pytest.approx(0.5 * 10.0**-places, rel=0.1)
    assert math.copysign(1, float(round_degrees(np.array(-1e-9), np.array(6)))) == 1


def test_huge_ellipse_is_drawn_no_larger_than_a_quarter_meridian():
    """Axes beyond any map are drawn at the limit, so that the ring stays a ring."""
    outline = ring(10.0, 20.0, 1e9, 1e8, 30.0)
    distance = geodesic_distance_m(10.0, 20.0, outline[:, 1], outline[:, 0])
    assert distance == pytest.approx(MAX_SEMI_AXIS_M, rel=1e-4)


@pytest.mark.parametrize(("latitude", "thinnest"), [(45.0, 0.001), (89.99, 42.6), (90.0, 96.4)])
def test_needles_are_fattened_only_near_a_pole(latitude, thinnest):
    """A needle of 1 km by 1 mm keeps its width at mid latitudes, and gets a tenth of its length at a pole."""
    outline = ring(latitude, 20.0, 1000.0, 0.001, 90.0)
    _, north = wgs84_to_enu(latitude, 20.0, outline[:, 1], outline[:, 0])
    assert np.abs(north).max() == pytest.approx(thinnest, rel=0.01)


@pytest.mark.parametrize(
    ("latitude", "longitude", "crosses", "winding"),
    [
        (45.0, 7.0, False, 0),
        (45.0, 180.0, True, 0),
        (45.0, -179.99, True, 0),
        (45.0, 179.9, False, 0),
        (89.99, 60.0, True, 1),
        (-89.99, 60.0, True, -1),
        (90.0, 0.0, True, 1),
        (-90.0, 0.0, True, -1),
        (89.9, 60.0, False, 0),
        (89.9, 179.0, True, 0),
    ],
)
def test_crossings_and_poles_are_recognised(latitude, longitude, crosses, winding):
    """A ring of 2 km by 1.5 km crosses ±180° only where it lies on it, and winds only about a pole it holds."""
    outline = ring(latitude, longitude, 2000.0, 1500.0, 20.0)
    found_crosses, found_winding = antimeridian_crossings(outline[None])
    assert (found_crosses.tolist(), found_winding.tolist()) == ([crosses], [winding])


def test_boxes_are_the_extremes_of_each_ring():
    """The box of a plain ring is west, south, east, north of its own vertices."""
    rings = np.stack([ring(45.0, 7.0, 2000.0, 500.0, 20.0), ring(-30.0, 100.0, 10.0, 10.0, 0.0)])
    for (west, south, east, north), outline in zip(bounding_boxes(rings), rings, strict=True):
        assert shapely.Polygon(outline).bounds == (west, south, east, north)
