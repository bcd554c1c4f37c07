"""Medians with their least and greatest, and quotients of what was measured."""

import pytest

from bench.figures import best, middle, quotient, spread


def test_spread_keeps_every_value() -> None:
    """The median is of the values, which stay in their order beside it."""
    assert spread([3.0, 1.0, 2.0]) == {"median": 2.0, "min": 1.0, "max": 3.0, "raw": [3.0, 1.0, 2.0]}


def test_spread_of_nothing_is_refused() -> None:
    """No measurement is not a zero."""
    with pytest.raises(ValueError, match="no measurement"):
        spread([])


def test_middle_follows_a_path() -> None:
    """A figure that is absent, or whose subject failed, is None."""
    report = {"a": {"drain": {"cpu_us": spread([4.0])}}, "b": {"failed": "gone"}}
    assert middle(report, "a", "drain", "cpu_us") == 4.0
    assert middle(report, "b", "drain", "cpu_us") is None
    assert middle(report, "c") is None


def test_quotient_needs_both() -> None:
    """What was not measured has no ratio; nor has a zero below the line."""
    assert quotient(3.0, 2.0) == 1.5
    assert quotient(None, 2.0) is None
    assert quotient(3.0, None) is None
    assert quotient(3.0, 0.0) is None


def test_best_of_what_is_known() -> None:
    """Subjects without a figure are left out."""
    assert best([None, 2.0, 5.0], max) == 5.0
    assert best([None], min) is None
