"""Fixes and their error ellipses as GeoJSON (RFC 7946), a whole batch at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from worker.geo.cut import bounding_box, cut_at_antimeridian, enclosing_box
from worker.geo.ellipse import ErrorEllipse
from worker.geo.ring import antimeridian_crossings, bounding_boxes, coordinate_decimals, ellipse_rings, round_degrees
from worker.geo.wgs84 import is_valid_position, normalise_longitude

# simplestyle-spec 1.1: what viewers such as geojson.io colour by. Nested fills add up, so one faint fill will do.
_ELLIPSE_STYLE = {
    "stroke": "#1f78b4",
    "stroke-width": 2,
    "stroke-opacity": 0.9,
    "fill": "#1f78b4",
    "fill-opacity": 0.15,
}
_FIX_STYLE = {"marker-color": "#e31a1c", "marker-size": "small"}
_HALF_TURN_DEG = 180.0


@dataclass(frozen=True, slots=True)
class FixIdentity:
    """What a fix is called on a map: its job, the sample's index within the job, and what it came from."""

    job_id: str
    sample: int
    session_id: str | None
    capture_time: str | None
    model_version: str


def feature_collections(
    identities: Sequence[FixIdentity],
    latitude_deg: ArrayLike,
    longitude_deg: ArrayLike,
    ellipses: Sequence[Sequence[ErrorEllipse]],
) -> list[dict[str, Any]]:
    """One FeatureCollection per fix: its ellipses, largest first so that small ones draw on top, then the fix.

    Ellipses that share a confidence are drawn once. A fix and its ellipses share the number of decimals, 6 unless
    the smallest ellipse needs more to keep its shape.

    Args:
        identities: B fixes.
        latitude_deg: (B,), in [-90, 90].
        longitude_deg: (B,), any finite longitude.
        ellipses: B lists, each of at least one ellipse of that fix.

    Returns:
        B dicts. Rings that need no cut stay float64 arrays (65, 2), for a serialiser that knows numpy, such as orjson
        with `OPT_SERIALIZE_NUMPY`: as Python numbers they would be thousands of objects per batch.

    Raises:
        ValueError: a position is not valid, a fix has no ellipse, or the lengths differ.
    """
    latitude = np.asarray(latitude_deg, dtype=np.float64)
    longitude = normalise_longitude(longitude_deg)
    largest_first = [_largest_first(of_fix) for of_fix in ellipses]
    if not len(identities) == latitude.size == longitude.size == len(ellipses):
        raise ValueError("identities, positions and ellipses differ in number")
    if not is_valid_position(latitude, longitude).all() or not all(largest_first):
        raise ValueError("each fix needs a finite position with a latitude in [-90, 90] and at least one ellipse")
    if not identities:
        return []
    smallest_m = np.array([of_fix[-1].semi_minor_m for of_fix in largest_first])
    decimals = coordinate_decimals(smallest_m)
    shapes = iter(_shapes(latitude, longitude, largest_first, decimals))
    points = round_degrees(np.column_stack((longitude, latitude)), decimals[:, None]).tolist()
    return [
        _collection(identity, point, [(ellipse, *next(shapes)) for ellipse in of_fix])
        for identity, point, of_fix in zip(identities, points, largest_first, strict=True)
    ]


def _largest_first(ellipses: Sequence[ErrorEllipse]) -> list[ErrorEllipse]:
    by_confidence = {ellipse.confidence: ellipse for ellipse in ellipses}
    return [by_confidence[confidence] for confidence in sorted(by_confidence, reverse=True)]


def _shapes(
    latitude_deg: NDArray[np.float64],
    longitude_deg: NDArray[np.float64],
    ellipses: Sequence[Sequence[ErrorEllipse]],
    decimals: NDArray[np.int64],
) -> list[tuple[dict[str, Any], list[float]]]:
    """Geometry and bbox of every ellipse of every fix, flat and in order."""
    fix = np.repeat(np.arange(len(ellipses)), [len(of_fix) for of_fix in ellipses])
    axes = np.array([(e.semi_major_m, e.semi_minor_m, e.azimuth_deg) for of_fix in ellipses for e in of_fix])
    rings = ellipse_rings(latitude_deg[fix], longitude_deg[fix], axes, decimals[fix])
    boxes = bounding_boxes(rings)
    shapes: list[tuple[dict[str, Any], list[float]]] = [
        ({"type": "Polygon", "coordinates": [ring]}, box) for ring, box in zip(rings, boxes.tolist(), strict=True)
    ]
    # Every ring that crosses ±180° is wider than half a turn.
    for r in np.flatnonzero(boxes[:, 2] - boxes[:, 0] > _HALF_TURN_DEG).tolist():
        [crosses], [winding] = antimeridian_crossings(rings[r : r + 1])
        if crosses:
            geometry = cut_at_antimeridian(rings[r], int(winding), int(decimals[fix[r]]))
            shapes[r] = (geometry, bounding_box(rings[r], int(winding)))
    return shapes


def _collection(
    identity: FixIdentity, point: list[float], shapes: Sequence[tuple[ErrorEllipse, dict[str, Any], list[float]]]
) -> dict[str, Any]:
    features = [_ellipse_feature(identity, *shape) for shape in shapes]
    features.append(_fix_feature(identity, point))
    bbox = enclosing_box([box for _, _, box in shapes], point[0])
    return {"type": "FeatureCollection", "bbox": bbox, "features": features}


def _ellipse_feature(
    identity: FixIdentity, ellipse: ErrorEllipse, geometry: dict[str, Any], bbox: list[float]
) -> dict[str, Any]:
    return {
        "type": "Feature",
        "id": f"{identity.job_id}/{identity.sample}/ellipse-{_percent(ellipse.confidence)}",
        "bbox": bbox,
        "geometry": geometry,
        "properties": {
            **_properties("ellipse", identity),
            "confidence": ellipse.confidence,
            "semi_major_m": ellipse.semi_major_m,
            "semi_minor_m": ellipse.semi_minor_m,
            "azimuth_deg": ellipse.azimuth_deg,
            **_ELLIPSE_STYLE,
        },
    }


def _fix_feature(identity: FixIdentity, point: list[float]) -> dict[str, Any]:
    return {
        "type": "Feature",
        "id": f"{identity.job_id}/{identity.sample}/fix",
        "geometry": {"type": "Point", "coordinates": point},
        "properties": {**_properties("fix", identity), **_FIX_STYLE},
    }


def _properties(kind: str, identity: FixIdentity) -> dict[str, Any]:
    return {
        "kind": kind,
        "job_id": identity.job_id,
        "session_id": identity.session_id,
        "capture_time": identity.capture_time,
        "model_version": identity.model_version,
    }


@lru_cache(maxsize=256)
def _percent(confidence: float) -> str:
    """95 for 0.95, 99.5 for 0.995: decimal arithmetic, so that different confidences give different ids."""
    return f"{(Decimal(repr(confidence)) * 100).normalize():f}"
