"""Answers for people."""

import io

import pytest
from rich.console import Console

from client.errors import LocalizationError
from client.report import (
    describe_answer,
    describe_error,
    format_age,
    format_decimal,
    format_dms,
    format_length,
    merged_geojson,
)
from schemas.problems import ErrorCode, ProblemError
from schemas.result import Coordinates
from tests.unit.client.fakes import batch_result, problem, result


@pytest.mark.parametrize(
    ("latitude", "longitude", "shown"),
    [
        (45.044, 7.672, "45°02\u203238.4\u2033 N 7°40\u203219.2\u2033 E"),
        (-0.00001, -179.99999, "0°00\u203200.0\u2033 S 180°00\u203200.0\u2033 W"),
        (59.9999999, 0.0, "60°00\u203200.0\u2033 N 0°00\u203200.0\u2033 E"),
    ],
)
def test_dms_carries(latitude: float, longitude: float, shown: str) -> None:
    """Seconds never read 60.0."""
    assert format_dms(Coordinates(latitude=latitude, longitude=longitude)) == shown


def test_decimal_names_the_hemisphere() -> None:
    """No sign has to be interpreted."""
    assert format_decimal(Coordinates(latitude=-33.85, longitude=-70.5)) == "33.850000° S 70.500000° W"


@pytest.mark.parametrize(("metres", "shown"), [(0.4, "0 m"), (999.4, "999 m"), (2410.0, "2.41 km")])
def test_lengths(metres: float, shown: str) -> None:
    """Metres up to a kilometre."""
    assert format_length(metres) == shown


@pytest.mark.parametrize(
    ("age_ms", "shown"),
    [(12.0, "12 ms"), (-3.0, "-3 ms"), (1500.0, "1.5 s"), (6e5, "10.0 min"), (1.9e11, "6.0 years"), (-2e3, "-2.0 s")],
)
def test_ages(age_ms: float, shown: str) -> None:
    """From milliseconds to years."""
    assert format_age(age_ms) == shown


def test_one_collection_is_left_as_it_came() -> None:
    """Only several are merged; failed samples have no feature."""
    assert merged_geojson([result("a")]) == result("a").geojson
    assert len(merged_geojson([result("a"), batch_result("b", 3)])["features"]) == 3


def test_particulars_do_not_repeat_the_detail() -> None:
    """An entry of `errors` is shown for what it adds: where, what else, and what would be right."""
    errors = [
        ProblemError(detail="what was wrong with it", pointer="global/core:sample_rate", expected=48000),
        ProblemError(detail="what was wrong with it"),
        ProblemError(detail="something else"),
    ]
    console = Console(file=io.StringIO(), width=200)
    console.print(describe_error("iq", LocalizationError(problem("j", ErrorCode.SAMPLE_RATE_MISMATCH, errors))))
    shown = console.file.getvalue()
    assert "- global/core:sample_rate: expected: 48000" in shown
    assert "- something else" in shown
    assert shown.count("what was wrong with it") == 1


def test_full_answer_of_a_batch() -> None:
    """Position, problem and job are shown; what is absent leaves no line."""
    console = Console(file=io.StringIO(), width=200)
    console.print(describe_answer("iq", batch_result("j", 2)))
    console.print(describe_answer("bare", result("k", session_id=None, capture_time=None, confidence=0.8, flags=[])))
    shown = console.file.getvalue()
    assert "iq[1]: The IQ holds NaN" in shown
    assert "80% by the model" in shown
    assert shown.count("captured") == 1
