"""Rings that cross ±180° or hold a pole, cut for a flat map (RFC 7946, sections 3.1.9 and 5.2)."""

from collections.abc import Sequence
from typing import Any

import antimeridian
import numpy as np
from numpy.typing import NDArray

from worker.geo.ring import round_degrees

_HALF_TURN_DEG = 180.0
_POLE_DEG = 90.0
# A stretched ring reaches this far from ±180° and from its middle latitude.
_STRETCHED_DEG = 45.0


def cut_at_antimeridian(ring: NDArray[np.float64], winding: int, decimals: int) -> dict[str, Any]:
    """Cut one ring along ±180°; a ring about a pole is closed over the pole.

    The cut is planar, as RFC 7946 edges are, and so commutes with stretching the map along its axes. The ring is
    stretched to tens of degrees first: the cutting library compares with fixed tolerances of up to 2 cm.

    Args:
        ring: (P, 2) longitude, latitude; closed, counter-clockwise seen from above.
        winding: 1 if it holds the north pole, -1 the south pole, 0 none.
        decimals: of a degree, for the positions on the cut.

    Returns:
        A GeoJSON Polygon or MultiPolygon, exterior rings counter-clockwise.
    """
    longitude_factor, latitude_factor, middle_deg = _stretch(ring, winding)
    stretched_middle_deg = _POLE_DEG * winding
    longitude = _scale_from_antimeridian(ring[:, 0], longitude_factor)
    latitude = stretched_middle_deg + (ring[:, 1] - middle_deg) * latitude_factor
    pieces = []
    for exterior in _cut_stretched(np.column_stack((longitude, latitude)), winding):
        piece_longitude = _scale_from_antimeridian(exterior[:, 0], 1 / longitude_factor)
        piece_latitude = middle_deg + (exterior[:, 1] - stretched_middle_deg) / latitude_factor
        pieces.append(round_degrees(np.column_stack((piece_longitude, piece_latitude)), np.array(decimals)))
    # A piece narrower than the rounding grid has no area left.
    return _geometry([[piece.tolist()] for piece in pieces if _signed_area(piece) > 0])


def bounding_box(ring: NDArray[np.float64], winding: int) -> list[float]:
    """Box of a ring that crosses ±180° (west > east) or holds a pole (all longitudes, up to the pole).

    RFC 7946, sections 5.2 and 5.3.

    Args:
        ring: (P, 2) longitude, latitude; closed.
        winding: 1 if it holds the north pole, -1 the south pole, 0 none.

    Returns:
        West, south, east, north in degrees.
    """
    south, north = float(ring[:, 1].min()), float(ring[:, 1].max())
    if winding:
        pole = _POLE_DEG * winding
        return [-_HALF_TURN_DEG, min(south, pole), _HALF_TURN_DEG, max(north, pole)]
    unwrapped = np.unwrap(ring[:, 0], period=2 * _HALF_TURN_DEG)
    west, east = float(ring[unwrapped.argmin(), 0]), float(ring[unwrapped.argmax(), 0])
    # A ring that only touches ±180° lies on one side of it.
    return [
        -_HALF_TURN_DEG if west == _HALF_TURN_DEG else west,
        south,
        abs(east) if east == -_HALF_TURN_DEG else east,
        north,
    ]


def enclosing_box(boxes: Sequence[list[float]], longitude_deg: float) -> list[float]:
    """Smallest box about boxes that share a longitude, RFC 7946, section 5.

    Args:
        boxes: at least one, each west, south, east, north.
        longitude_deg: a longitude inside all of them.

    Returns:
        West, south, east, north in degrees; west > east if it crosses ±180°.
    """
    wests, souths, easts, norths = zip(*boxes, strict=True)
    south, north = min(souths), max(norths)
    if not any(west > east for west, _, east, _ in boxes):
        return [min(wests), south, max(easts), north]
    if any((west, east) == (-_HALF_TURN_DEG, _HALF_TURN_DEG) for west, _, east, _ in boxes):
        return [-_HALF_TURN_DEG, south, _HALF_TURN_DEG, north]
    west = max(wests, key=lambda degrees: (longitude_deg - degrees) % 360)
    east = max(easts, key=lambda degrees: (degrees - longitude_deg) % 360)
    return [west, south, east, north]


def _stretch(ring: NDArray[np.float64], winding: int) -> tuple[float, float, float]:
    """Factors for longitude and latitude, and the latitude that stays; nothing is stretched past a half turn."""
    reach_deg = float((_HALF_TURN_DEG - np.abs(ring[:, 0])).max())
    longitude_factor = 1.0 if winding else max(1.0, _STRETCHED_DEG / reach_deg)
    middle_deg = _POLE_DEG * winding if winding else float(ring[:, 1].mean())
    return longitude_factor, _STRETCHED_DEG / float(np.abs(ring[:, 1] - middle_deg).max()), middle_deg


def _scale_from_antimeridian(longitude_deg: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    """Scale the distance from ±180°, (P,), on either side of it."""
    return np.copysign(_HALF_TURN_DEG - (_HALF_TURN_DEG - np.abs(longitude_deg)) * factor, longitude_deg)


def _cut_stretched(ring: NDArray[np.float64], winding: int) -> list[NDArray[np.float64]]:
    """Exterior rings of the pieces, each (P, 2)."""
    shape = antimeridian.fix_shape(
        {"type": "Polygon", "coordinates": [ring.tolist()]},
        force_north_pole=winding > 0,
        force_south_pole=winding < 0,
        fix_winding=False,
        great_circle=False,
    )
    polygons = [shape["coordinates"]] if shape["type"] == "Polygon" else shape["coordinates"]
    return [np.array(polygon[0]) for polygon in polygons]


def _signed_area(ring: NDArray[np.float64]) -> float:
    """Shoelace area of a closed ring about its first position, positive if counter-clockwise."""
    x, y = (ring - ring[0]).T
    return float(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1])) / 2


def _geometry(polygons: list[Any]) -> dict[str, Any]:
    if len(polygons) == 1:
        return {"type": "Polygon", "coordinates": polygons[0]}
    return {"type": "MultiPolygon", "coordinates": polygons}
