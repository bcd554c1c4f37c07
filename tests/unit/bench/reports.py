"""A report as a run writes it, with figures that can be computed by hand."""

from typing import Any

from bench.figures import spread
from bench.ratios import judged, ratios


def subject(kind: str, cpu_us: float, jobs_per_s: float, idle_ms: float) -> dict[str, Any]:
    """A subject's part of the report."""
    drain = {"cpu_us": cpu_us, "jobs_per_s": jobs_per_s, "broker_cpu_us": 100.0, "store_cpu_us": 10.0}
    return {
        "kind": kind,
        "settings": {},
        "jobs_per_drain": 96,
        "drain": {name: spread([value]) for name, value in drain.items()},
        "idle_ms": spread([idle_ms]),
        "memory_mib": 200.0,
    }


def report() -> dict[str, Any]:
    """One workload, with everything measured on it; peer `broken` failed."""
    figures = {
        "features_us": 60.0,
        "onnx_us": 10.0,
        "compute_us": 70.0,
        "answers_us": 50.0,
        "redis_us": 10.0,
        "lone_compute_ms": 0.5,
        "lone_redis_ms": 0.2,
    }
    workload = {
        "title": "1 receiver",
        "body_bytes": 1_048_576,
        "model_mib": 0.1,
        "subjects": {
            "heimdall": subject("worker", 200.0, 3000.0, 2.0),
            "plain_script": subject("script", 250.0, 2500.0, 1.5),
            "floor_amqp": subject("floor", 120.0, 5000.0, 0.8),
            "slow": subject("queue", 900.0, 500.0, 1.0),
            "fast": subject("queue", 800.0, 1000.0, 4.0),
            "http": subject("serving", 700.0, 1500.0, 8.0),
            "broken": {"kind": "queue", "settings": {}, "failed": "no such package\nat line 3"},
        },
        "floors": {name: spread([value]) for name, value in figures.items()}
        | {"batch_size": 4, "result_bytes": 5000, "stored_bytes": 6000},
        "sla": {
            "offered_jobs_per_s": 700.0,
            "sent": 1000,
            "success": 1.0,
            **{f"p{percent}_ms": spread([10.0]) for percent in ("50", "95", "99", "99.9")},
            "curve": {"latency_ms": [1.0, 2.0, 10.0], "fraction": [0.5, 0.9, 1.0]},
        },
        "sweep": {
            "subjects": {
                "heimdall": [
                    {
                        "offered_jobs_per_s": 100.0,
                        "answered_jobs_per_s": 100.0,
                        "p50_ms": 1.0,
                        "p95_ms": 2.0,
                        "p99_ms": 3.0,
                    }
                ]
            }
        },
    }
    costs = {name: spread([1.0]) for name in ("jobs_per_s", "cpu_us", "broker_cpu_us", "store_cpu_us")}
    document = {
        "machine": {
            "processor": "Any",
            "cores": 2,
            "memory_gib": 4.0,
            "system": "Linux",
            "python": "3.11",
            "load_before": 0.1,
            "at": "2026-01-01T00:00:00Z",
            "packages": {"numpy": "2"},
        },
        "command": ["bench"],
        "seconds": 60.0,
        "workloads": {"network": workload},
        "batching": {"heavy": {"gain": spread([5.0]), "max_batch": {"1": costs, "32": costs}}},
        "hits": {"network": {"cpu_over_miss": spread([0.4]), "hit_rate": spread([0.995]), "hit": costs, "miss": costs}},
        "scale": {"workload": "narrow", "cores": 2, "workers": {"1": costs, "2": costs}},
        "depth": {"depths": [{"waiting": 10, "jobs_per_s": 1.0, "cpu_us": 1.0, "broker_cpu_us": 1, "store_cpu_us": 1}]},
    }
    document["ratios"] = ratios(document)
    document["targets"] = judged(document)
    return document
