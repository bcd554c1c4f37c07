"""Results as the page draws them: what is shown on the map and on a click, and no more."""

from dataclasses import dataclass
from typing import Any, Final

import orjson

from client.report import FLAGS, format_decimal, format_length
from schemas.events import SampleResult
from schemas.result import LocalizationResult
from schemas.time import parse_datetime_ns

Located = LocalizationResult | SampleResult

_NS_PER_S: Final = 1e9


@dataclass(frozen=True, slots=True)
class Drawn:
    """A fix for the page.

    Attributes:
        key: `{job_id}/{sample}`.
    """

    key: str
    _fields: dict[str, Any]

    def text(self, number: int) -> bytes:
        """As JSON, with the number of the change that brings it."""
        return orjson.dumps({"number": number, **self._fields})


def drawn_fix(fix: Located) -> Drawn:
    """A fix, its rings and what a click shows."""
    key = f"{fix.job_id}/{fix.sample if isinstance(fix, SampleResult) else 0}"
    when = fix.capture_time or fix.timestamp
    fields = {
        "session": fix.session_id or "",
        "at": [fix.position.latitude, fix.position.longitude],
        "time_s": parse_datetime_ns(when) / _NS_PER_S,
        "captured": fix.capture_time,
        "age_ms": fix.age_ms,
        "rings": _rings(fix.geojson),
        "rows": _rows(fix, key),
    }
    return Drawn(key, fields)


def drawn_receivers(fix: Located) -> dict[str, dict[str, Any]]:
    """The receivers that took part and whose place is known: `{id, at: [latitude, longitude], altitude_m}` by id."""
    places = {}
    for receiver in fix.receivers_used:
        if receiver.geolocation is not None:
            longitude, latitude, *altitude = receiver.geolocation.coordinates
            place = {"id": receiver.id, "at": [latitude, longitude], "altitude_m": altitude[0] if altitude else None}
            places[receiver.id] = place
    return places


def _rings(geojson: dict[str, Any]) -> list[dict[str, Any]]:
    """The ellipses as GeoJSON geometries, largest first, as the worker has drawn them on the geodesic."""
    rings = []
    for feature in geojson.get("features", ()):
        geometry, properties = feature.get("geometry") or {}, feature.get("properties") or {}
        if geometry.get("type") in ("Polygon", "MultiPolygon"):
            rings.append({"confidence": properties.get("confidence"), "geometry": geometry})
    return rings


def _rows(fix: Located, key: str) -> list[tuple[str, str]]:
    """What a click shows beside capture time and age, which the page tells as they are then."""
    model = fix.model
    rows = [("Position", format_decimal(fix.position))]
    for ellipse in sorted(fix.ellipses, key=lambda ellipse: -ellipse.confidence):
        axes = f"{format_length(ellipse.semi_major_m)} x {format_length(ellipse.semi_minor_m)}"
        rows.append((f"{ellipse.confidence * 100:g} % ellipse", f"{axes}, {ellipse.azimuth_deg:.0f}°"))
    rows.append(("Model", f"{model.name} version {model.version} ({model.alias})"))
    if fix.center_frequency_hz is not None:
        rows.append(("Frequency", f"{fix.center_frequency_hz / 1e6:.6f} MHz"))
    rows.append((f"{len(fix.receivers_used)} receivers", ", ".join(receiver.id for receiver in fix.receivers_used)))
    if fix.receivers_ignored:
        rows.append(("Ignored", ", ".join(f"{one.id} ({one.reason})" for one in fix.receivers_ignored)))
    if fix.flags:
        rows.append(("Mind", "; ".join(FLAGS[flag] for flag in fix.flags)))
    rows.append(("Job", key if isinstance(fix, SampleResult) else fix.job_id))
    return rows
