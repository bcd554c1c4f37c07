"""From a report's medians to the ratios and targets of the benchmark. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bench.figures import Document, best, middle, quotient

WORKER: Final = "heimdall"
SCRIPT: Final = "plain_script"


def ratios(report: Mapping[str, Any]) -> dict[str, Document]:
    """The ratios of each workload; None stands for what was not measured."""
    return {name: _of_workload(document, report, name) for name, document in report["workloads"].items()}


def _of_workload(document: Mapping[str, Any], report: Mapping[str, Any], name: str) -> Document:
    subjects, floors = document.get("subjects", {}), document.get("floors", {})
    worker = subjects.get(WORKER, {})
    cpu, rate, idle = (middle(worker, *path) for path in (("drain", "cpu_us"), ("drain", "jobs_per_s"), ("idle_ms",)))
    sla = document.get("sla", {})
    peers = [s for s in subjects.values() if s["kind"] in {"queue", "serving"}]
    return {
        "cpu_per_job_over_plain_script": quotient(cpu, middle(subjects, SCRIPT, "drain", "cpu_us")),
        "cpu_per_job_over_floors": quotient(cpu, floors_us(floors, subjects)),
        "throughput_over_best_queue_peer": quotient(rate, _best_rate(peers, "queue")),
        "throughput_over_best_serving_peer": quotient(rate, _best_rate(peers, "serving")),
        "idle_p50_over_floor": quotient(idle, lone_floor_ms(floors, subjects)),
        "idle_p50_over_best_peer": quotient(idle, best((middle(peer, "idle_ms") for peer in peers), min)),
        "p95_ms_at_70_percent": middle(sla, "p95_ms"),
        "p99_ms_at_70_percent": middle(sla, "p99_ms"),
        "success": sla.get("success"),
        "batching_gain": middle(report, "batching", name, "gain"),
        "hit_cpu_over_miss": middle(report, "hits", name, "cpu_over_miss"),
    }


def floors_us(floors: Mapping[str, Any], subjects: Mapping[str, Any]) -> float | None:
    """Floors (a), (b) and (c) together, µs per job."""
    parts = [
        middle(floors, "compute_us"),
        middle(subjects, "floor_amqp", "drain", "cpu_us"),
        middle(floors, "redis_us"),
    ]
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def lone_floor_ms(floors: Mapping[str, Any], subjects: Mapping[str, Any]) -> float | None:
    """Features and ONNX, one AMQP round trip and one write to Redis, ms, each alone."""
    parts = [
        middle(floors, "lone_compute_ms"),
        middle(subjects, "floor_amqp", "idle_ms"),
        middle(floors, "lone_redis_ms"),
    ]
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def _best_rate(peers: Sequence[Mapping[str, Any]], kind: str) -> float | None:
    return best((middle(peer, "drain", "jobs_per_s") for peer in peers if peer["kind"] == kind), max)


def fastest(document: Mapping[str, Any], kind: str) -> str | None:
    """Name of the peer of a kind with the greatest throughput, or None."""
    rates = {
        name: middle(subject, "drain", "jobs_per_s")
        for name, subject in document.get("subjects", {}).items()
        if subject["kind"] == kind
    }
    known = {name: rate for name, rate in rates.items() if rate is not None}
    return max(known, key=lambda name: known[name]) if known else None


@dataclass(frozen=True, slots=True)
class Target:
    """Something that must hold.

    Attributes:
        workload: of the ratio, or empty.
        ratio: name of the ratio, or of a figure beside them.
        least: the value must not be below it; None = there is no such bound.
        most: the value must not be above it; None = there is no such bound.
    """

    workload: str
    ratio: str
    least: float | None = None
    most: float | None = None

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.workload} {self.ratio}".strip()

    def judge(self, value: float | None) -> bool | None:
        """Whether it holds; None = not measured."""
        if value is None:
            return None
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)


_LIGHT: Final = ("tiny", "narrow", "network")
LEAST_IDLE_OVER_PEER: Final = 1.0 / 0.8
"""No peer's median may be lower by more than 20 %."""
TARGETS: Final[tuple[Target, ...]] = (
    *(Target(name, "cpu_per_job_over_plain_script", most=1.0) for name in _LIGHT),
    Target("tiny", "throughput_over_best_queue_peer", least=2.0),
    Target("narrow", "throughput_over_best_queue_peer", least=1.5),
    Target("network", "throughput_over_best_queue_peer", least=1.2),
    *(Target(name, "throughput_over_best_serving_peer", least=1.2) for name in _LIGHT),
    Target("heavy", "throughput_over_best_serving_peer", least=1.0),
    *(Target(name, "idle_p50_over_floor", most=1.5) for name in (*_LIGHT, "heavy")),
    *(Target(name, "idle_p50_over_best_peer", most=LEAST_IDLE_OVER_PEER) for name in (*_LIGHT, "heavy")),
    *(Target(name, "success", least=1.0) for name in ("narrow", "network")),
    *(Target(name, "p95_ms_at_70_percent", most=100.0) for name in ("narrow", "network")),
    *(Target(name, "p99_ms_at_70_percent", most=150.0) for name in ("narrow", "network")),
    Target("heavy", "batching_gain", least=3.0),
    Target("network", "hit_rate", least=0.99),
    Target("network", "hit_cpu_over_miss", most=0.5),
    Target("", "two_workers", least=1.0),
)


def judged(report: Mapping[str, Any]) -> list[Document]:
    """Every target with its value, and whether it holds; `held` is None where it was not measured."""
    found = []
    for target in TARGETS:
        value = _value(report, target)
        bounds = {"least": target.least, "most": target.most}
        found.append({"name": target.name, **bounds, "value": value, "held": target.judge(value)})
    return found


def _value(report: Mapping[str, Any], target: Target) -> float | None:
    if target.ratio == "hit_rate":
        return middle(report, "hits", target.workload, "hit_rate")
    if target.ratio == "two_workers":
        return two_workers(report.get("scale", {}))
    value = report["ratios"].get(target.workload, {}).get(target.ratio)
    return None if value is None else float(value)


LEAST_SPEEDUP: Final = 1.7
MOST_CPU_GROWTH: Final = 1.1


def two_workers(scale: Mapping[str, Any]) -> float | None:
    """Whether two workers do what they should, 1.0 or 0.0.

    That is 1.7 times the throughput of one; on fewer cores than both and the broker can use, CPU per job within 10 %.
    """
    one, two = scale.get("workers", {}).get("1"), scale.get("workers", {}).get("2")
    speedup = quotient(middle(two, "jobs_per_s"), middle(one, "jobs_per_s"))
    growth = quotient(middle(two, "cpu_us"), middle(one, "cpu_us"))
    if speedup is None or growth is None:
        return None
    allowed = scale["cores"] >= CORES_FOR_TWO
    return float(speedup >= LEAST_SPEEDUP if allowed else growth <= MOST_CPU_GROWTH)


CORES_FOR_TWO: Final = 6
"""Two workers with two threads each, and the broker and the load with one."""


def last_line(targets: Sequence[Mapping[str, Any]]) -> str:
    """The line a run ends with."""
    held = [target for target in targets if target["held"]]
    missed = [target["name"].replace(" ", ".") for target in targets if target["held"] is False]
    unknown = sum(target["held"] is None for target in targets)
    line = f"bench: targets={len(targets)} held={len(held)} missed={len(missed)} not_measured={unknown}"
    return f"{line} missing: {', '.join(missed)}" if missed else line
