"""Latencies as HDR histograms: µs from 1 to 60 s, three significant figures, merged without loss."""

from collections.abc import Iterable, Sequence
from typing import Final

from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]

LOWEST_US: Final = 1
HIGHEST_US: Final = 60_000_000
FIGURES: Final = 3
LONE_PAUSES_S: Final = (0.002, 0.02)
"""Shortest and longest pause before a lone job, seconds, drawn evenly."""
LONE_TIMEOUT_S: Final = 30.0
"""How long a lone job is waited for."""
_US: Final = 1e6


def recorded(latencies_s: Iterable[float]) -> HdrHistogram:
    """A histogram of latencies in seconds; what is longer than it can show counts as its longest."""
    histogram = HdrHistogram(LOWEST_US, HIGHEST_US, FIGURES)
    for latency_s in latencies_s:
        histogram.record_value(min(max(round(latency_s * _US), LOWEST_US), HIGHEST_US))
    return histogram


def encoded(histogram: HdrHistogram) -> bytes:
    """In the HDR histogram's own interchange format, base64."""
    text = histogram.encode()
    return text if isinstance(text, bytes) else str(text).encode()


def merged(encoded_histograms: Sequence[bytes]) -> HdrHistogram:
    """All in one."""
    total = HdrHistogram(LOWEST_US, HIGHEST_US, FIGURES)
    for text in encoded_histograms:
        total.decode_and_add(text)
    return total


def percentile_ms(histogram: HdrHistogram, percent: float) -> float:
    """Latency that so many percent do not exceed, ms."""
    return float(histogram.get_value_at_percentile(percent)) / 1000


def curve(histogram: HdrHistogram) -> tuple[list[float], list[float]]:
    """The cumulative distribution: latencies in ms, and the fraction that does not exceed each."""
    if not histogram.get_total_count():
        return [], []
    points = [(item.value_iterated_to / 1000, item.percentile / 100) for item in histogram.get_percentile_iterator(20)]
    return [x for x, _ in points], [y for _, y in points]
