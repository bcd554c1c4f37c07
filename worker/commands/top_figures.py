"""Rates and percentiles of a worker, from two readings of its `/metrics`. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]
P95: Final = 0.95


@dataclass(frozen=True, slots=True)
class Reading:
    """What a worker's `/metrics` said.

    Attributes:
        at: monotonic seconds.
        samples: name → labels → value.
    """

    at: float
    samples: Mapping[str, Mapping[Labels, float]]

    def total(self, name: str, **labels: str) -> float:
        """Sum of the series whose labels agree; 0 where there are none."""
        wanted = labels.items()
        return sum(value for found, value in self.samples.get(name, {}).items() if wanted <= dict(found).items())

    def labels(self, name: str) -> list[dict[str, str]]:
        """Labels of the series that are not 0."""
        return [dict(found) for found, value in self.samples.get(name, {}).items() if value]

    def buckets(self, name: str) -> dict[float, float]:
        """Upper bound → count, of a histogram's series together."""
        found: dict[float, float] = {}
        for labels, value in self.samples.get(f"{name}_bucket", {}).items():
            bound = float(dict(labels)["le"])
            found[bound] = found.get(bound, 0.0) + value
        return found


def read_metrics(text: str, at: float) -> Reading:
    """Read the Prometheus text format.

    Raises:
        ValueError: it is none.
    """
    samples: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    if "heimdall_jobs_total" not in samples and "heimdall_deliveries_total" not in samples:
        raise ValueError("no metrics of a Heimdall worker")
    return Reading(at, samples)


@dataclass(frozen=True, slots=True)
class Figures:
    """One worker between two readings.

    Attributes:
        name: of the worker; None where it does not say.
        serving: part → version.
        jobs_per_s, errors_per_s: terminal outcomes.
        p95_ms: delivery to result; None where there was no result.
        in_flight: jobs held.
    """

    name: str | None
    consuming: bool
    serving: Mapping[str, str]
    jobs_per_s: float
    errors_per_s: float
    p95_ms: float | None
    in_flight: int


def figures(before: Reading, after: Reading) -> Figures:
    """What happened between two readings of one worker; a restart between them counts from zero."""
    seconds = max(after.at - before.at, 1e-9)
    quantile = histogram_quantile(P95, _grown(before, after, "heimdall_job_seconds"))
    names = after.labels("heimdall_worker_info")
    return Figures(
        name=names[0].get("worker") if names else None,
        consuming=after.total("heimdall_consuming") > 0,
        serving={found["alias"].lower(): found["version"] for found in after.labels("heimdall_model_info")},
        jobs_per_s=_growth(before.total("heimdall_jobs_total"), after.total("heimdall_jobs_total")) / seconds,
        errors_per_s=_growth(
            before.total("heimdall_jobs_total", outcome="error"), after.total("heimdall_jobs_total", outcome="error")
        )
        / seconds,
        p95_ms=None if quantile is None else 1000 * quantile,
        in_flight=int(after.total("heimdall_in_flight")),
    )


def histogram_quantile(share: float, buckets: Mapping[float, float]) -> float | None:
    """The value below which a share lies, by linear interpolation in its bucket, as Prometheus estimates it.

    Args:
        share: 0..1.
        buckets: upper bound → count of all that are at most as large.

    Returns:
        None where nothing was counted; the largest finite bound where the value lies beyond it.
    """
    bounds = sorted(buckets)
    if not bounds or not buckets[bounds[-1]]:
        return None
    rank = share * buckets[bounds[-1]]
    lower, below = 0.0, 0.0
    for bound in bounds:
        count = buckets[bound]
        if count >= rank:
            if bound == inf:
                return lower
            return lower + (bound - lower) * (rank - below) / max(count - below, 1e-12)
        lower, below = bound, count
    return lower


def _grown(before: Reading, after: Reading, name: str) -> dict[float, float]:
    old = before.buckets(name)
    new = after.buckets(name)
    restarted = any(count < old.get(bound, 0.0) for bound, count in new.items())
    return new if restarted else {bound: count - old.get(bound, 0.0) for bound, count in new.items()}


def _growth(before: float, after: float) -> float:
    return after if after < before else after - before
