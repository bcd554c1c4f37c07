"""An independent reading of RFC 7946 for what the worker writes, plus its promise on decimals."""

import math
from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise
from typing import Any

Position = list[float]

# Bounding boxes and cuts are rounded to the written decimals; 6 decimals leave this much play.
TOLERANCE_DEG = 2e-6
MAX_DECIMALS = 6
SMALL_SEMI_MINOR_M = 6.0


def assert_rfc7946(feature_collection: dict[str, Any]) -> None:
    """Assert that a FeatureCollection keeps RFC 7946 and writes at most 6 decimals unless an ellipse is small."""
    assert feature_collection["type"] == "FeatureCollection"
    features = feature_collection["features"]
    assert features, "a collection of nothing"
    ids = [feature["id"] for feature in features]
    assert len(set(ids)) == len(ids), f"ids repeat: {ids}"
    for feature in features:
        _assert_feature(feature)
        for position in _positions(feature["geometry"]):
            assert _inside(feature_collection["bbox"], position), f"{position} is outside the collection's bbox"
    assert_finite(feature_collection)
    _assert_decimals(features)


def assert_finite(value: Any) -> None:
    """Assert that no number anywhere in a JSON value is NaN or infinite (RFC 8259, section 6)."""
    if isinstance(value, dict):
        assert all(isinstance(key, str) for key in value)
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            assert_finite(item)
    elif isinstance(value, float):
        assert math.isfinite(value)
    else:
        assert value is None or isinstance(value, str | int), f"{type(value)} is no plain JSON value"


def _assert_feature(feature: dict[str, Any]) -> None:
    assert feature["type"] == "Feature"
    assert isinstance(feature["id"], str)
    assert isinstance(feature["properties"], dict)
    geometry = feature["geometry"]
    assert geometry["type"] in {"Point", "Polygon", "MultiPolygon"}
    for position in _positions(geometry):
        assert len(position) == 2
        assert -180 <= position[0] <= 180, f"longitude {position[0]}: longitude comes first"
        assert -90 <= position[1] <= 90
    polygons = _polygons(geometry)
    assert len(polygons) > 1 or geometry["type"] != "MultiPolygon", "a MultiPolygon of fewer than two"
    for polygon in polygons:
        assert len(polygon) == 1, "an ellipse has no holes"
        assert_exterior_ring(polygon[0])
    if "bbox" in feature:
        _assert_tight(feature["bbox"], polygons)


def assert_exterior_ring(ring: list[Position]) -> None:
    """Assert closure (3.1.6), right-hand rule (3.1.6) and no crossing of ±180° (3.1.9)."""
    assert ring[0] == ring[-1], "not closed"
    assert ring[-2] != ring[-1], "closed twice"
    assert len({tuple(position) for position in ring}) >= 3, "fewer than four positions"
    assert signed_area(ring) > 0, "exterior ring is clockwise"
    for (lon1, lat1), (lon2, lat2) in pairwise(ring):
        along_pole = abs(lat1) == 90 and lat1 == lat2
        assert along_pole or abs(lon2 - lon1) <= 180, "crosses the antimeridian"


def signed_area(ring: list[Position]) -> float:
    """Shoelace area in square degrees, positive if counter-clockwise."""
    x0, y0 = ring[0]
    return sum((x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0) for (x1, y1), (x2, y2) in pairwise(ring)) / 2


def _polygons(geometry: dict[str, Any]) -> list[Any]:
    if geometry["type"] == "Point":
        return []
    return [geometry["coordinates"]] if geometry["type"] == "Polygon" else list(geometry["coordinates"])


def _positions(geometry: dict[str, Any]) -> Iterator[Position]:
    if geometry["type"] == "Point":
        yield geometry["coordinates"]
    for polygon in _polygons(geometry):
        for ring in polygon:
            yield from ring


def _inside(bbox: list[float], position: Position) -> bool:
    west, south, east, north = bbox
    lon, lat = position
    within = west <= lon <= east if west <= east else lon >= west or lon <= east
    return within and south <= lat <= north


def _assert_tight(bbox: list[float], polygons: list[Any]) -> None:
    """The box of section 5: around all pieces, west > east if the shape lies on both sides of ±180° only there."""
    rings = [polygon[0] for polygon in polygons]
    spans = [(min(p[0] for p in ring), max(p[0] for p in ring)) for ring in rings]
    if len(spans) == 1 or (-180.0, 180.0) in spans:
        west, east = min(span[0] for span in spans), max(span[1] for span in spans)
    else:
        west = min(span[0] for span in spans if span[1] == 180)
        east = max(span[1] for span in spans if span[0] == -180)
    south, north = min(p[1] for ring in rings for p in ring), max(p[1] for ring in rings for p in ring)
    for actual, expected in zip(bbox, (west, south, east, north), strict=True):
        difference = abs(actual - expected) % 360
        assert min(difference, 360 - difference) <= TOLERANCE_DEG, f"bbox {bbox}, shape {(west, south, east, north)}"


def _assert_decimals(features: list[dict[str, Any]]) -> None:
    if any(f["properties"].get("semi_minor_m", math.inf) < SMALL_SEMI_MINOR_M for f in features):
        return
    for feature in features:
        for position in _positions(feature["geometry"]):
            assert all(decimals(degrees) <= MAX_DECIMALS for degrees in position), f"{position} has too many decimals"


def decimals(number: float) -> int:
    """Digits after the point in the shortest decimal that reads back as this float."""
    exponent = Decimal(repr(number)).as_tuple().exponent
    assert isinstance(exponent, int)
    return max(0, -exponent)
