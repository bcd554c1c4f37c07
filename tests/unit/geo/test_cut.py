import numpy as np
import pytest
import shapely

from tests.support.rfc7946 import assert_exterior_ring
from worker.geo.cut import bounding_box, cut_at_antimeridian, enclosing_box

SQUARE = np.array([[179.0, -1.0], [-179.0, -1.0], [-179.0, 1.0], [179.0, 1.0], [179.0, -1.0]])
NORTH_CAP = np.array([[-90.0, 80.0], [0.0, 80.0], [90.0, 80.0], [180.0, 80.0], [-90.0, 80.0]])


def test_square_is_cut_in_two_halves():
    """A square across ±180° becomes its eastern and its western half."""
    geometry = cut_at_antimeridian(SQUARE, 0, 6)
    assert geometry["type"] == "MultiPolygon"
    halves = sorted(shapely.Polygon(polygon[0]).bounds for polygon in geometry["coordinates"])
    assert halves == [(-180, -1, -179, 1), (179, -1, 180, 1)]
    for polygon in geometry["coordinates"]:
        assert_exterior_ring(polygon[0])


@pytest.mark.parametrize("size_deg", [1e-11, 1e-9, 1e-7, 1e-5, 1e-3])
def test_cut_keeps_the_area_of_rings_of_any_size(size_deg):
    """A ring of micrometres is cut as exactly as one of kilometres."""
    t = np.linspace(0, 2 * np.pi, 65)
    longitude = 180 + size_deg * np.cos(t)
    ring = np.column_stack((np.where(longitude > 180, longitude - 360, longitude), 40 + size_deg * np.sin(t)))
    ring[-1] = ring[0]
    geometry = cut_at_antimeridian(ring, 0, 13)
    areas = [shapely.Polygon(np.array(polygon[0]) - polygon[0][0]).area for polygon in geometry["coordinates"]]
    assert areas == pytest.approx([np.pi / 2 * size_deg**2] * 2, rel=0.05)


@pytest.mark.parametrize(("sign", "winding"), [(1, 1), (-1, -1)])
def test_cap_is_closed_over_its_pole(sign, winding):
    """A ring about a pole becomes one polygon from the ring to the pole over all longitudes."""
    cap = NORTH_CAP[::sign] * [1, sign]
    geometry = cut_at_antimeridian(cap, winding, 6)
    assert geometry["type"] == "Polygon"
    assert_exterior_ring(geometry["coordinates"][0])
    polygon = shapely.Polygon(geometry["coordinates"][0])
    assert polygon.bounds == (-180, min(80 * sign, 90 * sign), 180, max(80 * sign, 90 * sign))
    assert polygon.area == pytest.approx(3600)


def test_piece_without_area_is_dropped():
    """A sliver thinner than the rounding grid leaves one Polygon, not a piece without area."""
    ring = np.array([[179.0, 0.0], [-179.9999999, 0.4], [-179.9999999, 0.6], [179.0, 1.0], [179.0, 0.0]])
    geometry = cut_at_antimeridian(ring, 0, 6)
    assert geometry["type"] == "Polygon"
    assert shapely.Polygon(geometry["coordinates"][0]).bounds == (179, 0, 180, 1)


def test_box_across_the_antimeridian_has_west_above_east():
    """RFC 7946, section 5.2: the box runs eastwards from 179 to -179, wherever the ring starts."""
    assert bounding_box(SQUARE, 0) == [179, -1, -179, 1]
    rolled = np.concatenate((SQUARE[1:], SQUARE[1:2]))
    assert bounding_box(rolled, 0) == [179, -1, -179, 1]


def test_box_of_a_cap_reaches_the_pole():
    """RFC 7946, section 5.3: the box of a ring about a pole spans all longitudes up to the pole."""
    assert bounding_box(NORTH_CAP, 1) == [-180, 80, 180, 90]
    assert bounding_box(NORTH_CAP[::-1] * [1, -1], -1) == [-180, -90, 180, -80]


def test_box_of_a_ring_that_touches_the_antimeridian_stays_on_its_side():
    """A vertex on ±180°, whichever sign it carries, does not make a box cross."""
    east_side = np.array([[179.0, 0.0], [-180.0, 0.5], [179.0, 1.0], [179.0, 0.0]])
    assert bounding_box(east_side, 0) == [179, 0, 180, 1]
    assert bounding_box(east_side * [-1, 1], 0) == [-180, 0, -179, 1]


@pytest.mark.parametrize(
    ("boxes", "longitude", "expected"),
    [
        ([[1, 2, 5, 6], [0, 3, 4, 7]], 3, [0, 2, 5, 7]),
        ([[179, 0, -179, 1], [178, 0, 179.9, 2]], 179.5, [178, 0, -179, 2]),
        ([[179, 0, -179, 1], [-180, -2, -178, 1]], -179.5, [179, -2, -178, 1]),
        ([[-180, 80, 180, 90], [170, 81, -170, 89]], 180, [-180, 80, 180, 90]),
    ],
)
def test_enclosing_box_holds_all_boxes(boxes, longitude, expected):
    """Boxes on either side of ±180°, across it, and about a pole are enclosed without going round the world."""
    assert enclosing_box(boxes, longitude) == expected
