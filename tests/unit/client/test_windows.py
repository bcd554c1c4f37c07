"""Which stretches of a recording become jobs."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client import Capture, CaptureError, cut
from client.windows import Windows
from schemas.time import parse_datetime_ns

MILLISECONDS = st.integers(1, 5000).map(lambda number: number / 1000)


@pytest.mark.parametrize(
    ("window_s", "hop_s", "duration_s", "count", "left_s"),
    [
        (0.2, None, 1.0, 5, 0.0),
        (0.2, 0.2, 1.1, 5, 0.1),
        (0.2, 0.1, 1.0, 9, 0.0),
        (0.2, 1.0, 2.5, 3, 0.3),
        (0.2, None, 0.1, 0, 0.1),
        (0.1, None, 0.3, 3, 0.0),
        (None, None, 7.0, 1, 0.0),
    ],
)
def test_whole_windows_only(
    window_s: float | None, hop_s: float | None, duration_s: float, count: int, left_s: float
) -> None:
    """As many as fit; what is left over is told, never published."""
    windows = Windows(window_s, hop_s)
    assert windows.count(duration_s) == len(list(windows.stretches(duration_s))) == count
    assert windows.left_s(duration_s) == pytest.approx(left_s, abs=1e-9)


@given(window_s=MILLISECONDS, hop_s=MILLISECONDS, duration_s=MILLISECONDS)
def test_windows_lie_within_the_recording(window_s: float, hop_s: float, duration_s: float) -> None:
    """At multiples of the hop, none beyond the end, and no room for one more."""
    stretches = list(Windows(window_s, hop_s).stretches(duration_s))
    assert [one.start_ns for one in stretches] == [round(index * hop_s * 1e9) for index in range(len(stretches))]
    assert all(one.start_ns / 1e9 + window_s <= duration_s + 2e-6 for one in stretches)
    assert len(stretches) * hop_s + window_s > duration_s - 1e-6


def test_hops_do_not_drift() -> None:
    """Three windows per second: after an hour the last still begins on the third, to the nanosecond."""
    last = list(Windows(0.1, 1 / 3).stretches(3600.0))[-1]
    assert last.start_ns == round(last.index * 1e9 / 3)


@pytest.mark.parametrize(("window_s", "hop_s"), [(0.0, None), (-1.0, None), (math.inf, None), (0.1, 0.0), (None, 0.2)])
def test_no_such_windows(window_s: float | None, hop_s: float | None) -> None:
    """Lengths that are none are refused, and so is a hop without a window."""
    with pytest.raises(CaptureError):
        Windows(window_s, hop_s)


def test_a_capture_is_cut() -> None:
    """Samples and capture times belong together, to the nanosecond; nothing is copied."""
    samples = np.arange(1000, dtype=np.complex64).reshape(2, 500)
    whole = Capture(samples=samples, sample_rate=1000.0, capture_time="2026-01-01T00:00:00.123456789Z")
    parts = list(cut(whole, window_s=0.1, hop_s=0.2))
    assert [part.array()[1, 0].real for part in parts] == [500, 700, 900]
    assert {part.length for part in parts} == {100}
    start_ns = parse_datetime_ns(whole.capture_time or "")
    assert [parse_datetime_ns(part.capture_time or "") - start_ns for part in parts] == [0, 200_000_000, 400_000_000]
    assert all(np.shares_memory(part.array(), samples) for part in parts)


def test_bytes_are_cut_too() -> None:
    """Interleaved integers are decoded once, and the windows are complex."""
    whole = Capture(samples=bytes(range(200)), sample_rate=100.0, datatype="ci8", channels=1)
    parts = list(cut(whole, window_s=0.5))
    assert [part.datatype for part in parts] == ["cf32_le", "cf32_le"]
    assert np.array_equal(np.concatenate([part.array() for part in parts], axis=1), whole.array())


@pytest.mark.parametrize(("length", "rate", "window_s"), [(6_143_980, 30.72e6, 0.2), (999_999, 1e6, 1.0)])
def test_a_capture_short_of_its_only_window_is_that_window(length: int, rate: float, window_s: float) -> None:
    """Where the capture lacks less than a microsecond, all of it is the window, and it begins when the capture does."""
    samples = np.broadcast_to(np.complex64(1), (1, length))  # Takes no memory.
    (part,) = cut(
        Capture(samples=samples, sample_rate=rate, capture_time="2026-01-01T00:00:00.000000000Z"), window_s=window_s
    )
    assert (part.length, part.capture_time) == (length, "2026-01-01T00:00:00.000000000Z")
