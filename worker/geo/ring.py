"""Outlines of error ellipses in longitude and latitude, rounded for GeoJSON.

Arrays hold R rings; positions are (longitude, latitude) in degrees. A ring is a closed polygon inscribed in the
ellipse, so that it covers (n/2π)·sin(2π/n) of its area: 99.84 % for 64 points.
"""

import numpy as np
from numpy.typing import NDArray

from worker.geo.wgs84 import (
    NEAR_LATITUDE_DEG,
    NEAR_M,
    SEMI_MAJOR_AXIS_M,
    enu_to_wgs84,
    enu_to_wgs84_near,
)

RING_POINTS = 64

# Beyond a quarter of the meridian an outline may hold both poles and is no simple ring on a map; below a micrometre
# float64 degrees run out of digits. Axes are drawn no larger and no smaller than this.
MAX_SEMI_AXIS_M = 1e7
MIN_SEMI_AXIS_M = 1e-6

# 1e-6 degrees is 0.11 m: finer than any receiver's own position (RFC 7946, section 11.2, warns of more).
COORDINATE_DECIMALS = 6
# The rounding grid is at least this much finer than the smaller half axis, or rounding would fold the ring.
_GRID_STEPS_PER_SEMI_MINOR = 50.0
_METRES_PER_EQUATOR_DEGREE = float(np.radians(SEMI_MAJOR_AXIS_M))

# An edge is straight in longitude and latitude, the ellipse is not: near a pole, at distance d, the edge of length
# 2πa/64 strays by its sagitta, edge²/8d. A needle thinner than four times that would fold over itself.
_THINNEST = 4 * (2 * np.pi / RING_POINTS) ** 2 / 8
_NEAREST_POLE = 0.05

_PHASE = 2 * np.pi * np.arange(RING_POINTS) / RING_POINTS
_COS, _SIN = np.cos(_PHASE), np.sin(_PHASE)


def coordinate_decimals(semi_minor_m: NDArray[np.float64]) -> NDArray[np.int64]:
    """Decimals of a degree with which to write an ellipse: 6, and more only if its semi-minor axis is under 5.6 m.

    Args:
        semi_minor_m: metres, (R,).

    Returns:
        int64 of shape (R,), 6 to 13.
    """
    steps_per_degree = (
        _GRID_STEPS_PER_SEMI_MINOR * _METRES_PER_EQUATOR_DEGREE / np.maximum(semi_minor_m, MIN_SEMI_AXIS_M)
    )
    return np.maximum(np.ceil(np.log10(steps_per_degree)), COORDINATE_DECIMALS).astype(np.int64)


def round_degrees(degrees: NDArray[np.float64], decimals: NDArray[np.int64]) -> NDArray[np.float64]:
    """Round to a number of decimals that differs by row, to the float64 nearest to the decimal.

    Args:
        degrees: any shape that broadcasts with `decimals`.
        decimals: at most 13, so that 180 degrees stay exact integers of the grid.

    Returns:
        float64 of the broadcast shape.
    """
    grid = 10.0**decimals
    # Adding 0 turns -0.0, which JSON would show, into 0.0.
    return np.asarray(np.rint(degrees * grid) / grid + 0.0)


def ellipse_rings(
    latitude_deg: NDArray[np.float64],
    longitude_deg: NDArray[np.float64],
    axes: NDArray[np.float64],
    decimals: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Closed rings of error ellipses, counter-clockwise as seen from above.

    Each vertex lies at the geodesic azimuth and distance from the fix that the ellipse has in the tangent plane:
    a·cos t along the major axis, b·sin t to its left, t = 0 … 2π. All vertices go through one call; where every ring
    is of ordinary size and latitude, through the series that is exact to millimetres there.

    Args:
        latitude_deg: centres, (R,).
        longitude_deg: centres, (R,).
        axes: (R, 3): semi-major a and semi-minor b in metres, drawn within `MIN_SEMI_AXIS_M` … `MAX_SEMI_AXIS_M`, and
            the azimuth of the major axis in degrees clockwise from true north. Needles are drawn no thinner than
            0.005 a²/d, d the distance from the ring to the nearer pole (millimetres for 1 km at mid latitudes), and no
            thinner than a/10 around a pole.
        decimals: to round to, (R,); see `coordinate_decimals`.

    Returns:
        (R, 65, 2) longitude, latitude; the last position equals the first. Longitudes jump where a ring crosses ±180°.
    """
    semi_major_m, semi_minor_m = _drawn_axes(latitude_deg, axes)
    azimuth = np.radians(axes[:, 2, None])
    along, left = semi_major_m[:, None] * _COS, semi_minor_m[:, None] * _SIN
    east_m = along * np.sin(azimuth) - left * np.cos(azimuth)
    north_m = along * np.cos(azimuth) + left * np.sin(azimuth)
    near = (semi_major_m <= NEAR_M).all() and (np.abs(latitude_deg) <= NEAR_LATITUDE_DEG).all()
    to_wgs84 = enu_to_wgs84_near if near else enu_to_wgs84
    latitude, longitude = to_wgs84(latitude_deg[:, None], longitude_deg[:, None], east_m, north_m)
    rings = np.empty((len(axes), RING_POINTS + 1, 2))
    rings[:, :-1, 0], rings[:, :-1, 1] = longitude, latitude
    rings[:, -1] = rings[:, 0]
    return round_degrees(rings, decimals[:, None, None])


def _drawn_axes(
    latitude_deg: NDArray[np.float64], axes: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Half axes of the outline, each (R,): those of the ellipse within what a ring of straight edges can show."""
    semi_major_m, semi_minor_m = np.minimum(np.maximum(axes[:, :2], MIN_SEMI_AXIS_M), MAX_SEMI_AXIS_M).T
    pole_m = (90 - np.abs(latitude_deg)) * _METRES_PER_EQUATOR_DEGREE - semi_major_m
    thinnest_m = _THINNEST * semi_major_m**2 / np.maximum(pole_m, _NEAREST_POLE * semi_major_m)
    return semi_major_m, np.maximum(semi_minor_m, thinnest_m)


def antimeridian_crossings(rings: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which rings cross ±180°, and how they wind about the poles.

    An edge joins two positions the shorter way round, so a step in longitude of more than half a turn is a crossing.
    A counter-clockwise ring that runs once around the world eastwards holds the north pole, westwards the south pole.

    Args:
        rings: (R, P, 2), closed.

    Returns:
        Crossing, bool (R,), and winding, int64 (R,): 1 holds the north pole, -1 the south pole, 0 none.
    """
    step = np.diff(rings[:, :, 0], axis=1)
    eastwards, westwards = step < -180, step > 180  # noqa: PLR2004 - half a turn
    winding = eastwards.sum(axis=1) - westwards.sum(axis=1)
    return np.asarray((eastwards | westwards).any(axis=1)), np.asarray(winding, dtype=np.int64)


def bounding_boxes(rings: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boxes of rings that do not cross ±180°: west, south, east, north (RFC 7946, section 5).

    Args:
        rings: (R, P, 2).

    Returns:
        (R, 4) in degrees.
    """
    by_axis = np.ascontiguousarray(np.moveaxis(rings, 2, 0))  # Reductions along the last axis are the fast ones.
    return np.concatenate((by_axis.min(axis=2), by_axis.max(axis=2))).T
