"""Latency of each serving version, for `/model/performance`: what a person asks without a Prometheus at hand."""

from collections import deque
from typing import Final

import numpy as np

_REMEMBERED: Final = 10_000


class Performance:
    """The last job latencies of each version."""

    def __init__(self) -> None:
        self._latencies: dict[str, deque[float]] = {}
        self._counts: dict[str, int] = {}

    def record(self, version: str, seconds: float, samples: int) -> None:
        """Note one job."""
        self._latencies.setdefault(version, deque(maxlen=_REMEMBERED)).append(seconds)
        self._counts[version] = self._counts.get(version, 0) + samples

    def retire(self, version: str) -> None:
        """Forget a version."""
        self._latencies.pop(version, None)
        self._counts.pop(version, None)

    def summary(self, version: str) -> dict[str, float | int | None]:
        """Samples located, and latency percentiles of the last jobs, milliseconds; None before the first."""
        latencies = self._latencies.get(version)
        figures = np.percentile(list(latencies), (50, 95, 99)) * 1000 if latencies else (None, None, None)
        names = ("latency_p50_ms", "latency_p95_ms", "latency_p99_ms")
        percentiles = {n: None if f is None else round(float(f), 3) for n, f in zip(names, figures, strict=True)}
        return {"inference_count": self._counts.get(version, 0), **percentiles}
