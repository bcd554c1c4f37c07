import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.geo.wgs84 import (
    NEAR_LATITUDE_DEG,
    NEAR_M,
    enu_to_wgs84,
    enu_to_wgs84_near,
    geodesic_distance_m,
    is_valid_position,
    metres_per_degree,
    normalise_longitude,
    plane_to_wgs84,
    wgs84_to_enu,
)


@pytest.mark.parametrize(
    ("longitude", "normal"),
    [(7.27, 7.27), (180, -180), (-180, -180), (190, -170), (-190, 170), (540, -180), (-180.00000000000003, -180)],
)
def test_longitudes_come_back_in_half_open_range(longitude, normal):
    """Longitudes are brought into [-180, 180), and those inside keep every bit."""
    assert float(normalise_longitude(longitude)) == normal


@given(st.floats(-1e6, 1e6))
def test_normalised_longitude_is_the_same_meridian(longitude):
    """Normalising changes a longitude by whole turns only, and lands in [-180, 180)."""
    normal = float(normalise_longitude(longitude))
    assert -180 <= normal < 180
    assert math.remainder(normal - longitude, 360) == pytest.approx(0, abs=1e-9)


@given(
    latitude=st.floats(-NEAR_LATITUDE_DEG, NEAR_LATITUDE_DEG),
    longitude=st.floats(-180, 179.9),
    distance=st.floats(0, NEAR_M),
    azimuth=st.floats(0, 2 * math.pi),
)
def test_the_series_agrees_with_the_geodesic(latitude, longitude, distance, azimuth):
    """Within its reach the series is off by 3 mm at most, and by 0.1 mm within 20 km."""
    offsets = np.array([[distance * math.sin(azimuth)], [distance * math.cos(azimuth)]])
    near = enu_to_wgs84_near(np.array([latitude]), np.array([longitude]), *offsets)
    off = float(geodesic_distance_m(*near, *enu_to_wgs84(latitude, longitude, *offsets))[0])
    assert off <= (1e-4 if distance <= 20_000 else 3e-3)
    assert -180 <= float(near[1][0]) < 180


def test_quarter_meridian_reaches_the_pole():
    """10,001,965.729 m north of the equator, the WGS84 quarter meridian, is the north pole."""
    latitude, _ = enu_to_wgs84(0.0, 7.0, 0.0, 10_001_965.729)
    assert float(latitude) == pytest.approx(90, abs=1e-7)


def test_geodesic_along_the_equator():
    """East along the equator one degree is a·π/180 metres."""
    latitude, longitude = enu_to_wgs84(0.0, 10.0, 6_378_137 * math.pi / 180, 0.0)
    assert (float(latitude), float(longitude)) == pytest.approx((0, 11), abs=1e-9)


def test_offsets_cross_the_antimeridian():
    """East of 179.999° lies the western hemisphere."""
    latitude, longitude = enu_to_wgs84([0.0], [179.999], [1000.0], [0.0])
    assert latitude[0] == pytest.approx(0, abs=1e-9)
    assert longitude[0] == pytest.approx(-180 + (1000 / 111_319.49 - 0.001), abs=1e-7)


def test_offsets_cross_the_pole():
    """Going on north over the pole comes down on the opposite meridian."""
    latitude, longitude = enu_to_wgs84(89.99, 30.0, 0.0, 2 * 1116.94)
    assert float(latitude) == pytest.approx(89.99, abs=1e-5)
    assert float(longitude) == pytest.approx(-150)


@given(
    st.floats(-90, 90), st.floats(-180, 180), st.floats(-200e3, 200e3), st.floats(-200e3, 200e3)
)  # fmt: skip
def test_east_north_round_trip(latitude, longitude, east, north):
    """Going out and measuring back gives the same offsets to a micrometre, at the poles too."""
    moved = enu_to_wgs84(latitude, longitude, east, north)
    assert -180 <= moved[1] < 180
    back_east, back_north = wgs84_to_enu(latitude, longitude, *moved)
    assert math.hypot(back_east - east, back_north - north) < 1e-6


@given(st.floats(-90, 90), st.floats(-180, 180), st.floats(-200e3, 200e3), st.floats(-200e3, 200e3))
def test_offset_length_is_geodesic_distance(latitude, longitude, east, north):
    """The distance to the moved point is the length of the offset."""
    distance = geodesic_distance_m(latitude, longitude, *enu_to_wgs84(latitude, longitude, east, north))
    assert float(distance) == pytest.approx(math.hypot(east, north), abs=1e-6)


def test_offsets_broadcast():
    """One origin and many offsets give many points of the broadcast shape."""
    latitude, longitude = enu_to_wgs84(45.0, 7.0, np.zeros((3, 1)), np.arange(4.0))
    assert latitude.shape == longitude.shape == (3, 4)


@pytest.mark.parametrize(
    ("latitude", "per_latitude", "per_longitude"),
    [(0, 110_574.28, 111_319.49), (45, 111_131.78, 78_846.81), (-60, 111_412.24, 55_800.00), (90, 111_693.98, 0)],
)
def test_degree_lengths_match_published_values(latitude, per_latitude, per_longitude):
    """The length of a degree on WGS84 matches published tables to a decimetre."""
    assert metres_per_degree(latitude) == pytest.approx((per_latitude, per_longitude), abs=0.1)


@given(st.floats(-89, 89), st.floats(-180, 180))
def test_degree_lengths_agree_with_geodesics(latitude, longitude):
    """A small step in latitude or longitude is as long as the geodesic between its ends."""
    step = 1e-4
    per_latitude, per_longitude = metres_per_degree(latitude)
    northwards = geodesic_distance_m(latitude - step / 2, longitude, latitude + step / 2, longitude)
    eastwards = geodesic_distance_m(latitude, longitude, latitude, longitude + step)
    assert float(northwards) == pytest.approx(per_latitude * step, rel=1e-6)
    assert float(eastwards) == pytest.approx(per_longitude * step, rel=1e-6)


def test_plane_uses_its_own_degree_lengths():
    """A model trained on a flat plane gets the plane back, wrapped at ±180°."""
    latitude, longitude = plane_to_wgs84([45.0, 0.0], [7.0, 179.9], [78_000.0, 15_600.0], [-55_500, 0], (111e3, 78e3))
    assert latitude.tolist() == [44.5, 0.0]
    assert longitude.tolist() == pytest.approx([8.0, -179.9])


def test_invalid_positions_are_told_apart():
    """Non-finite positions and latitudes beyond a pole are not valid; any finite longitude is."""
    latitude = [45, 90, 90.0001, math.nan, 0, 0]
    longitude = [7, 361, 0, 0, math.inf, math.nan]
    assert is_valid_position(latitude, longitude).tolist() == [True, True, False, False, False, False]
