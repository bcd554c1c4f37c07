"""Fixes as Cursor on Target."""

import math
from xml.etree import ElementTree as ET

import pytest

from client.cot import cot_event
from schemas.events import SampleResult
from tests.unit.client.fakes import FIX, JOB, result

SMALL = {"semi_major_m": 10.0, "semi_minor_m": 5.0, "azimuth_deg": 1.0, "confidence": 0.68, "area_m2": 157.0}


def event(**changes: object) -> ET.Element:
    """The event of a fix, parsed."""
    return ET.fromstring(cot_event(result("job-1", **changes), stale_s=30))


def test_the_fields_that_clients_need() -> None:
    """Version, identity, type, three times in UTC with milliseconds, and a point with all five numbers."""
    made = event()
    assert (made.tag, made.get("version"), made.get("type"), made.get("how")) == ("event", "2.0", "a-u-G", "m-f")
    assert (made.get("time"), made.get("stale")) == ("2026-01-09T15:00:03.000Z", "2026-01-09T15:00:33.000Z")
    assert made.get("start") == "2026-01-09T15:00:02.123Z"
    point = made.find("point")
    assert point is not None
    assert set(point.attrib) == {"lat", "lon", "hae", "ce", "le"}
    assert point.attrib["hae"] == point.attrib["le"] == "9999999.0"


def test_the_error_circle_is_one_sigma() -> None:
    """`ce` is the sigma of a circle with the same mean variance."""
    point = event(covariance_m2=[[9e4, 0.0], [0.0, 1e4]]).find("point")
    assert point is not None
    assert float(point.attrib["ce"]) == pytest.approx(math.sqrt(5e4), abs=0.1)


def test_the_largest_ellipse_is_drawn() -> None:
    """Half axes in metres and the azimuth from north, whatever the order asked."""
    ellipse = event(ellipses=[SMALL, FIX["ellipse"], SMALL]).find("detail/shape/ellipse")
    assert ellipse is not None
    assert dict(ellipse.attrib) == {"major": "2410.0", "minor": "850.0", "angle": "31.0"}


def test_a_source_moves_and_a_lone_job_stays() -> None:
    """The session is the identity; without one, the job, and in a batch the sample."""
    assert event(session_id="fox").get("uid") == "heimdall.fox"
    assert event(session_id=None).get("uid") == "heimdall.job-1"
    sample = SampleResult.model_validate({**JOB, **FIX, "job_id": "many", "session_id": None, "sample": 3})
    assert ET.fromstring(cot_event(sample, stale_s=1)).get("uid") == "heimdall.many/3"


def test_text_is_escaped_and_on_one_line() -> None:
    """Whatever a session is called, the line is one well-formed document."""
    text = cot_event(result("job-1", session_id='<"&\n'), stale_s=1)
    assert "\n" not in text
    assert ET.fromstring(text).get("uid") == 'heimdall.<"&\n'


def test_a_fix_without_a_capture_time_starts_when_it_was_made() -> None:
    """`start` is never missing."""
    assert event(capture_time=None).get("start") == event().get("time")
