"""Distance and direction on the WGS84 ellipsoid, without a geodesy library: the client has none.

Vincenty's inverse formula (Survey Review 23, 1975, 88-93), in his notation: accurate to 0.1 mm, but without a solution
near the antipode. There the great circle of the mean radius takes its place, which is within 0.6 %: an error of
20,000 km needs no more.
"""

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

SEMI_MAJOR_AXIS_M: Final = 6_378_137.0
FLATTENING: Final = 1 / 298.257223563  # EPSG:7030, as the axis
MEAN_RADIUS_M: Final = SEMI_MAJOR_AXIS_M * (1 - FLATTENING / 3)
_ROUNDS: Final = 100
_CONVERGED_RAD: Final = 1e-12  # 6 micrometres


def offset_m(
    latitude1_deg: ArrayLike, longitude1_deg: ArrayLike, latitude2_deg: ArrayLike, longitude2_deg: ArrayLike
) -> tuple[Array, Array]:
    """Offsets of second points from first ones, as the worker's `enu_m` means them.

    The second point lies on the geodesic that leaves the first at azimuth atan2(east, north), at distance
    hypot(east, north).

    Args:
        latitude1_deg: degrees north; all four broadcast against each other.
        longitude1_deg: degrees east.
        latitude2_deg: degrees north.
        longitude2_deg: degrees east.

    Returns:
        East and north in metres, float64 of the broadcast shape.
    """
    radians = [np.radians(np.asarray(value, np.float64)) for value in (latitude1_deg, latitude2_deg)]
    turn_deg = np.asarray(longitude2_deg, np.float64) - np.asarray(longitude1_deg, np.float64)
    turn = np.radians(np.mod(turn_deg + 180.0, 360.0) - 180.0)
    distance_m, azimuth = _inverse(*np.broadcast_arrays(*radians, turn))
    return distance_m * np.sin(azimuth), distance_m * np.cos(azimuth)


def _inverse(latitude1: Array, latitude2: Array, turn: Array) -> tuple[Array, Array]:
    """Distance in metres and azimuth at the first point, from latitudes and difference of longitude in radians."""
    u1, u2 = (np.arctan((1 - FLATTENING) * np.tan(latitude)) for latitude in (latitude1, latitude2))
    turned = turn
    for _ in range(_ROUNDS):
        arc = _Arc(u1, u2, turned)
        following = turn + arc.correction()
        change = np.abs(following - turned)
        turned = following
        if np.all(change < _CONVERGED_RAD):
            break
    solved = (change < _CONVERGED_RAD) & (np.abs(turned) <= np.pi)
    arc, circle = _Arc(u1, u2, turned), _Arc(latitude1, latitude2, turn)
    distance_m = np.where(solved, arc.length_m(), MEAN_RADIUS_M * circle.sigma)
    return distance_m, np.where(solved, arc.azimuth(), circle.azimuth())


class _Arc:
    """A great-circle arc on the auxiliary sphere, between reduced latitudes."""

    def __init__(self, u1: Array, u2: Array, turn: Array) -> None:
        self._east = np.cos(u2) * np.sin(turn)
        self._north = np.cos(u1) * np.sin(u2) - np.sin(u1) * np.cos(u2) * np.cos(turn)
        self.sin_sigma = np.hypot(self._east, self._north)
        self.cos_sigma = np.sin(u1) * np.sin(u2) + np.cos(u1) * np.cos(u2) * np.cos(turn)
        self.sigma = np.arctan2(self.sin_sigma, self.cos_sigma)
        # Points that coincide have no direction; any will do.
        sin_alpha = np.cos(u1) * self._east / np.where(self.sin_sigma == 0, 1.0, self.sin_sigma)
        self.sin_alpha, self.cos2_alpha = sin_alpha, 1 - sin_alpha**2
        equatorial = self.cos2_alpha < 1e-15  # noqa: PLR2004 - rounding of 1
        middle = 2 * np.sin(u1) * np.sin(u2) / np.where(equatorial, 1.0, self.cos2_alpha)
        self.cos_2m = np.where(equatorial, 0.0, self.cos_sigma - middle)

    def azimuth(self) -> Array:
        """At the first point, radians clockwise from north."""
        return np.asarray(np.arctan2(self._east, self._north))

    def correction(self) -> Array:
        """What the longitude on the sphere exceeds that on the ellipsoid by, radians."""
        c = FLATTENING / 16 * self.cos2_alpha * (4 + FLATTENING * (4 - 3 * self.cos2_alpha))
        inner = self.cos_2m + c * self.cos_sigma * (2 * self.cos_2m**2 - 1)
        return np.asarray((1 - c) * FLATTENING * self.sin_alpha * (self.sigma + c * self.sin_sigma * inner))

    def length_m(self) -> Array:
        """Length on the ellipsoid."""
        semi_minor_m = SEMI_MAJOR_AXIS_M * (1 - FLATTENING)
        u = self.cos2_alpha * (SEMI_MAJOR_AXIS_M**2 / semi_minor_m**2 - 1)
        a = 1 + u / 16384 * (4096 + u * (-768 + u * (320 - 175 * u)))
        b = u / 1024 * (256 + u * (-128 + u * (74 - 47 * u)))
        first = self.cos_sigma * (2 * self.cos_2m**2 - 1)
        second = b / 6 * self.cos_2m * (4 * self.sin_sigma**2 - 3) * (4 * self.cos_2m**2 - 3)
        delta = b * self.sin_sigma * (self.cos_2m + b / 4 * (first - second))
        return np.asarray(semi_minor_m * a * (self.sigma - delta))
