"""Networks of receivers for the demo: where they stand, and where transmitters may appear.

Positions are also given in a local frame: east and north of the network's origin in metres, as `worker.geo.wgs84`
defines them and the contract's `enu_m` means them. Within 150 km its distances are true to 1 in 10,000.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import shapely
import shapely.geometry

from worker.geo.wgs84 import enu_to_wgs84, wgs84_to_enu

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Site:
    """A receiver and the place of its antenna: WGS84 degrees, metres above the ellipsoid."""

    id: str
    latitude_deg: float
    longitude_deg: float
    altitude_m: float


@dataclass(frozen=True)
class Network:
    """Fixed receivers that record the same channel at the same time.

    Attributes:
        name: key in `NETWORKS`, and name of the model's files.
        title: for people.
        sites: the receivers, in the order of the model's slots.
        frequency_hz: centre of the recorded channel.
        margin_m: transmitters appear within this distance of the receivers' convex hull.
        max_missing: how many receivers a scene may lack.
        ground_m: mean altitude of transmitters.
    """

    name: str
    title: str
    sites: tuple[Site, ...]
    frequency_hz: float
    margin_m: float
    max_missing: int
    ground_m: float

    @cached_property
    def origin(self) -> tuple[float, float]:
        """Latitude and longitude of the local frame's origin: mean of the receivers, degrees to four places."""
        latitude = np.mean([site.latitude_deg for site in self.sites])
        longitude = np.mean([site.longitude_deg for site in self.sites])
        return round(float(latitude), 4), round(float(longitude), 4)

    @cached_property
    def site_positions_m(self) -> Array:
        """East, north and altitude of the receivers, metres (R, 3)."""
        places = np.array([(site.longitude_deg, site.latitude_deg) for site in self.sites])
        altitudes_m = np.array([site.altitude_m for site in self.sites])
        return np.column_stack([self.to_enu_m(places), altitudes_m])

    @cached_property
    def area(self) -> shapely.Polygon:
        """Where transmitters appear, in the local frame, metres."""
        hull = shapely.MultiPoint(self.site_positions_m[:, :2]).convex_hull
        return hull.buffer(self.margin_m, quad_segs=8)

    @cached_property
    def area_geojson(self) -> dict[str, Any]:
        """The same area as a GeoJSON Polygon, counter-clockwise (RFC 7946)."""
        ring = self.to_wgs84(np.asarray(self.area.exterior.coords)).round(5)
        polygon = shapely.geometry.polygon.orient(shapely.Polygon(ring), 1.0)
        return {"type": "Polygon", "coordinates": [[list(point) for point in polygon.exterior.coords]]}

    def to_wgs84(self, enu_m: Array) -> Array:
        """East and north in metres (n, 2) to longitude and latitude in degrees (n, 2)."""
        latitude, longitude = enu_to_wgs84(*self.origin, enu_m[:, 0], enu_m[:, 1])
        return np.column_stack([longitude, latitude])

    def to_enu_m(self, lon_lat_deg: Array) -> Array:
        """Longitude and latitude in degrees (n, 2) to east and north in metres (n, 2)."""
        return np.column_stack(wgs84_to_enu(*self.origin, lon_lat_deg[:, 1], lon_lat_deg[:, 0]))


TORINO: Final = Network(
    name="torino",
    title="Sixteen illustrative receivers round Torino",
    # Real towns at rounded places, about 9 km apart; no receiver stands there.
    sites=(
        Site("Fiano", 45.212, 7.522, 430.0),
        Site("Caselle", 45.184, 7.642, 280.0),
        Site("Volpiano", 45.200, 7.776, 220.0),
        Site("Chivasso", 45.191, 7.890, 185.0),
        Site("Alpignano", 45.112, 7.506, 330.0),
        Site("Venaria", 45.122, 7.622, 260.0),
        Site("Settimo", 45.124, 7.752, 210.0),
        Site("Rivalba", 45.112, 7.884, 330.0),
        Site("Rivalta", 45.034, 7.520, 290.0),
        Site("Mirafiori", 45.026, 7.630, 250.0),
        Site("Superga", 45.044, 7.762, 560.0),
        Site("Andezeno", 45.036, 7.872, 300.0),
        Site("Volvera", 44.952, 7.512, 250.0),
        Site("La Loggia", 44.956, 7.648, 235.0),
        Site("Villastellone", 44.944, 7.756, 235.0),
        Site("Poirino", 44.930, 7.868, 250.0),
    ),
    frequency_hz=433.5e6,
    margin_m=6_000.0,
    max_missing=3,
    ground_m=240.0,
)

NORTHWEST: Final = Network(
    name="northwest",
    title="Seven receivers in north-west Italy",
    sites=(
        Site("Giaveno", 45.030, 7.270, 600.0),
        Site("Montanaro", 45.234, 7.857, 300.0),
        Site("Torino", 45.044, 7.672, 250.0),
        Site("Coazze", 45.048, 7.238, 700.0),
        Site("Passo dei Giovi", 44.561, 8.956, 480.0),
        Site("Genova", 44.395, 8.956, 100.0),
        Site("Milano-Baggio", 45.478, 9.123, 120.0),
    ),
    frequency_hz=145.5e6,
    margin_m=10_000.0,
    max_missing=2,
    ground_m=200.0,
)

NETWORKS: Final[dict[str, Network]] = {network.name: network for network in (TORINO, NORTHWEST)}
