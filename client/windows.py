"""Cutting: which stretches of a recording become jobs."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from client.capture import Capture
from client.errors import CaptureError
from schemas.time import format_datetime_ns, parse_datetime_ns

NANOSECONDS: Final = 1_000_000_000
_ROUNDING_S: Final = 1e-6
"""A recording that lacks a microsecond at its end, by the rounding of its rate, still holds its last window."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a recording.

    Attributes:
        index: of the window.
        start_ns: nanoseconds from the recording's beginning.
        duration_s: seconds; None = to its end.
    """

    index: int
    start_ns: int
    duration_s: float | None


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of one length at regular instants.

    Attributes:
        window_s: length of each, seconds; None = a recording is one window.
        hop_s: from the beginning of one to that of the next; None = back to back.

    Raises:
        CaptureError: a length that is no length, or a hop without a window.
    """

    window_s: float | None = None
    hop_s: float | None = None

    def __post_init__(self) -> None:
        if self.window_s is not None and not 0 < self.window_s < math.inf:
            raise CaptureError(f"a window is longer than nothing, not {self.window_s * 1000:g} ms")
        if self.hop_s is not None and not 0 < self.hop_s < math.inf:
            raise CaptureError(f"windows begin at least some time apart, not {self.hop_s:g} s")
        if self.window_s is None and self.hop_s is not None:
            raise CaptureError("a rate of windows needs their length: give --window-ms, such as --window-ms 200")

    def count(self, duration_s: float) -> int:
        """How many whole windows a recording holds; what is left at its end is no window."""
        if self.window_s is None:
            return 1
        left = duration_s + _ROUNDING_S - self.window_s
        return 0 if left < 0 else math.floor(left / self._hop_s) + 1

    def stretches(self, duration_s: float) -> Iterator[Stretch]:
        """The windows of a recording, in order."""
        for index in range(self.count(duration_s)):
            yield Stretch(index, round(index * self._hop_s * NANOSECONDS), self.window_s)

    def left_s(self, duration_s: float) -> float:
        """Seconds at the recording's end that are in no window."""
        if self.window_s is None:
            return 0.0
        count = self.count(duration_s)
        covered = 0.0 if count == 0 else (count - 1) * self._hop_s + self.window_s
        return max(0.0, duration_s - covered)

    @property
    def _hop_s(self) -> float:
        return self.hop_s or self.window_s or 0.0


def cut(capture: Capture, *, window_s: float, hop_s: float | None = None) -> Iterator[Capture]:
    """Cut a capture into windows, each with its own capture time.

    Args:
        capture: of any length; samples of an array are not copied.
        window_s: length of each, seconds.
        hop_s: from the beginning of one to that of the next; default: back to back.

    Raises:
        CaptureError: no lengths, or real-valued samples.
    """
    samples = capture.array()
    start_ns = None if capture.capture_time is None else parse_datetime_ns(capture.capture_time)
    # A capture may lack a microsecond of its last window, which then is as long as the capture.
    count = min(max(1, round(window_s * capture.sample_rate)), samples.shape[1])
    for stretch in Windows(window_s, hop_s).stretches(capture.duration_s):
        first = min(round(stretch.start_ns * capture.sample_rate / NANOSECONDS), samples.shape[1] - count)
        time_ns = None if start_ns is None else start_ns + round(first * NANOSECONDS / capture.sample_rate)
        yield replace(
            capture,
            samples=samples[:, first : first + count],
            capture_time=None if time_ns is None else format_datetime_ns(time_ns),
            datatype=capture.datatype if not isinstance(capture.samples, bytes) else "cf32_le",
            channels=None,
            windows=(),
        )
