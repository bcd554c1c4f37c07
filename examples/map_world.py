"""Makes the land and the borders of `heimdall map` from Natural Earth's.

    npm pack world-atlas@2.0.2 && tar xzf world-atlas-2.0.2.tgz
    python -m examples.map_world package/countries-50m.json client/map/static/world.geojson

Input is TopoJSON (its specification, section 2.1.2: arcs are delta-encoded and quantised), as the npm package
`world-atlas` has it. An arc of two countries is a border; land is the union of all countries.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import shapely
from shapely import affinity
from shapely.geometry.base import BaseGeometry

TOLERANCE_DEG: Final = 0.03
"""About 3 km: the map is to orient oneself, not to measure on."""
DECIMALS: Final = 2
LEAST_ISLAND_DEG2: Final = 3e-3
SOURCE: Final = "Natural Earth 4.1, Admin 0 countries 1:50m, by the npm package world-atlas 2.0.2; simplified to 0.03°"
LICENCE: Final = "Natural Earth is in the public domain (naturalearthdata.com); world-atlas: ISC, Michael Bostock"


def decoded_arcs(topology: dict[str, Any]) -> list[list[tuple[float, float]]]:
    """Longitudes and latitudes, degrees, of every arc."""
    (scale_x, scale_y), (move_x, move_y) = topology["transform"]["scale"], topology["transform"]["translate"]
    arcs = []
    for deltas in topology["arcs"]:
        x = y = 0
        arc = []
        for step_x, step_y in deltas:
            x, y = x + step_x, y + step_y
            arc.append((x * scale_x + move_x, y * scale_y + move_y))
        arcs.append(arc)
    return arcs


def rings_of(geometry: dict[str, Any]) -> Iterator[list[int]]:
    """The arcs of each ring of a (Multi)Polygon; ~i is arc i backwards."""
    polygons = geometry["arcs"] if geometry["type"] == "MultiPolygon" else [geometry["arcs"]]
    for polygon in polygons:
        yield from polygon


def borders(topology: dict[str, Any], arcs: Sequence[Sequence[tuple[float, float]]]) -> BaseGeometry:
    """The arcs that two countries share."""
    uses: Counter[int] = Counter()
    for country in topology["objects"]["countries"]["geometries"]:
        if country["type"] in ("Polygon", "MultiPolygon"):
            uses.update({arc if arc >= 0 else ~arc for ring in rings_of(country) for arc in ring})
    return shapely.line_merge(shapely.MultiLineString([arcs[arc] for arc, times in uses.items() if times > 1]))


def land(topology: dict[str, Any], arcs: Sequence[Sequence[tuple[float, float]]]) -> BaseGeometry:
    """All polygons of the land, without what lies within them and is none (the Caspian Sea)."""
    outlines, lakes = [], []
    for geometry in topology["objects"]["land"]["geometries"]:
        polygons = geometry["arcs"] if geometry["type"] == "MultiPolygon" else [geometry["arcs"]]
        for outline, *holes in polygons:
            outlines.append(whole_world(unwrapped(stitched(outline, arcs))))
            lakes += [shapely.Polygon(stitched(hole, arcs)) for hole in holes]
    islands = [island for island in outlines if island.area > LEAST_ISLAND_DEG2]
    return shapely.union_all(islands).difference(shapely.union_all(lakes))


def stitched(ring: Sequence[int], arcs: Sequence[Sequence[tuple[float, float]]]) -> list[tuple[float, float]]:
    """One ring of points from its arcs; each begins where the one before ended."""
    points: list[tuple[float, float]] = []
    for arc in ring:
        part = arcs[arc] if arc >= 0 else arcs[~arc][::-1]
        points += part[1:] if points else part
    return points


def unwrapped(ring: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """A ring that crosses the antimeridian, with longitudes that go on beyond 180°; one round a pole as it was."""
    points = [ring[0]]
    for longitude, latitude in ring[1:]:
        points.append((longitude + 360 * round((points[-1][0] - longitude) / 360), latitude))
    return ring if abs(points[-1][0] - points[0][0]) > 1 else points


def whole_world(ring: Sequence[tuple[float, float]]) -> BaseGeometry:
    """A polygon, cut at the antimeridian, all of it within ±180°."""
    polygon = shapely.Polygon(ring).buffer(0)
    parts = [
        affinity.translate(polygon.intersection(shapely.box(start, -90, start + 360, 90)), -180 - start)
        for start in (-540, -180, 180)
    ]
    return shapely.union_all([part for part in parts if part.area > 0])


def feature(kind: str, geometry: BaseGeometry) -> dict[str, Any]:
    """A feature of the file, simplified."""
    plain = shapely.set_precision(geometry.simplify(TOLERANCE_DEG), 10.0**-DECIMALS)
    if kind == "land":
        plain = shapely.MultiPolygon([part for part in shapely.get_parts(plain) if part.area > 0])
    document = json.loads(shapely.to_geojson(plain), parse_float=lambda text: round(float(text), DECIMALS))
    return {"type": "Feature", "properties": {"kind": kind}, "geometry": document}


def main(argv: Sequence[str]) -> int:
    """Read the TopoJSON file that is named first, write the GeoJSON file that is named second."""
    topology = json.loads(Path(argv[0]).read_text())
    arcs = decoded_arcs(topology)
    features = [feature("land", land(topology, arcs)), feature("border", borders(topology, arcs))]
    document = {"type": "FeatureCollection", "source": SOURCE, "licence": LICENCE, "features": features}
    Path(argv[1]).write_text(json.dumps(document, separators=(",", ":"), ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
