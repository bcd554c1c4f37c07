"""Live results as they are written: rows for people, GeoJSON text sequences, Cursor on Target, JSON lines."""

from typing import Final

import orjson
from rich.cells import set_cell_size

from client.report import FLAGS, format_age, format_length
from schemas.events import CompleteEvent, FailedEvent, SampleResult
from schemas.result import LocalizationResult

RECORD_SEPARATOR: Final = b"\x1e"
"""Before each text of a sequence (RFC 8142, section 2)."""

COLUMNS: Final = {
    "captured": 23,
    "session": 16,
    "latitude": 11,
    "longitude": 11,
    "ellipse": 28,
    "age": 10,
    "model": 6,
    "job": 40,
}
"""Widths, in cells; a longer value pushes the rest of its row aside, and is never cut."""
_DATE_TIME: Final = len("2026-01-01T00:00:00.000")


def header() -> str:
    """The names of the columns."""
    return _row(list(COLUMNS))


def fix_row(fix: LocalizationResult | SampleResult) -> str:
    """A fix as one row: the largest asked ellipse with its half axes and azimuth."""
    largest = max(fix.ellipses, key=lambda ellipse: ellipse.confidence)
    axes = f"{format_length(largest.semi_major_m)} x {format_length(largest.semi_minor_m)}"
    job = f"{fix.job_id}/{fix.sample}" if isinstance(fix, SampleResult) else fix.job_id
    flags = f"  ({'; '.join(FLAGS[flag] for flag in fix.flags)})" if fix.flags else ""
    cells = [
        (fix.capture_time or "-")[:_DATE_TIME],
        fix.session_id or "-",
        f"{fix.position.latitude:.6f}",
        f"{fix.position.longitude:.6f}",
        f"{largest.confidence * 100:g}% {axes} @{largest.azimuth_deg:.0f}°",
        "-" if fix.age_ms is None else format_age(fix.age_ms),
        fix.model_version,
        f"{job}{flags}",
    ]
    return _row(cells)


def failure_row(event: FailedEvent) -> str:
    """A failure as one row."""
    problem = event.data
    job = problem.job_id or "a job without an id"
    where = job if problem.sample is None else f"{job}/{problem.sample}"
    return f"{where}: {problem.title} ({problem.code}): {problem.detail}"


def geojson_seq(event: CompleteEvent) -> bytes:
    """The fix's features, each a text of an RFC 8142 sequence: its ellipses, largest first, then the position."""
    features = event.data.geojson["features"]
    return b"".join(RECORD_SEPARATOR + orjson.dumps(feature) + b"\n" for feature in features)


def _row(cells: list[str]) -> str:
    padded = [
        cell if len(cell) >= width else set_cell_size(cell, width)
        for cell, width in zip(cells, COLUMNS.values(), strict=True)
    ]
    return "  ".join(padded).rstrip()
