"""Fixes as Cursor on Target events (version 2.0), for TAK clients and servers.

| CoT | from |
|---|---|
| `uid` | the session, so that a source moves on the map; the job where there is none |
| `type` | `a-u-G`: an atom of unknown affiliation on the ground |
| `how` | `m-f`: made by machine, fused from several sensors |
| `time`, `start` | when the fix was made; when it was captured |
| `point` | the position; `ce` = 1 sigma of a circle of the same mean variance, metres; height is not known |
| `detail/shape/ellipse` | the largest asked ellipse: half axes in metres, degrees clockwise from north |
"""

import math
from typing import Final
from xml.etree import ElementTree as ET

from schemas.events import SampleResult
from schemas.result import Ellipse, LocalizationResult
from schemas.time import format_datetime_ns, parse_datetime_ns

UNKNOWN: Final = "9999999.0"
_NS_PER_S: Final = 1_000_000_000


def cot_event(fix: LocalizationResult | SampleResult, *, stale_s: float) -> str:
    """One event as XML, on one line.

    Args:
        fix: a located sample.
        stale_s: seconds after which a client may grey it out.
    """
    made_ns = parse_datetime_ns(fix.timestamp)
    event = ET.Element(
        "event",
        version="2.0",
        uid=f"heimdall.{fix.session_id or _sample_id(fix)}",
        type="a-u-G",
        how="m-f",
        time=_zulu(made_ns),
        start=_zulu(parse_datetime_ns(fix.capture_time or fix.timestamp)),
        stale=_zulu(made_ns + round(stale_s * _NS_PER_S)),
    )
    ET.SubElement(
        event,
        "point",
        lat=f"{fix.position.latitude:.7f}",
        lon=f"{fix.position.longitude:.7f}",
        hae=UNKNOWN,
        ce=f"{_circular_sigma_m(fix):.1f}",
        le=UNKNOWN,
    )
    _detail(event, fix)
    return ET.tostring(event, encoding="unicode")


def _detail(event: ET.Element, fix: LocalizationResult | SampleResult) -> None:
    detail = ET.SubElement(event, "detail")
    ET.SubElement(detail, "contact", callsign=fix.session_id or fix.job_id)
    largest = max(fix.ellipses, key=_by_confidence)
    shape = ET.SubElement(detail, "shape")
    ET.SubElement(
        shape,
        "ellipse",
        major=f"{largest.semi_major_m:.1f}",
        minor=f"{largest.semi_minor_m:.1f}",
        angle=f"{largest.azimuth_deg:.1f}",
    )
    remarks = ET.SubElement(detail, "remarks")
    flags = f"; {', '.join(fix.flags)}" if fix.flags else ""
    remarks.text = f"job {_sample_id(fix)}; ellipse {largest.confidence:.0%}; model {fix.model_version}{flags}"


def _circular_sigma_m(fix: LocalizationResult | SampleResult) -> float:
    (east, _), (_, north) = fix.covariance_m2
    return math.sqrt((east + north) / 2)


def _sample_id(fix: LocalizationResult | SampleResult) -> str:
    return f"{fix.job_id}/{fix.sample}" if isinstance(fix, SampleResult) else fix.job_id


def _by_confidence(ellipse: Ellipse) -> float:
    return ellipse.confidence


def _zulu(instant_ns: int) -> str:
    """With milliseconds, which every client reads."""
    return format_datetime_ns(instant_ns)[:-7] + "Z"
