"""Reading a worker's metrics as Prometheus would."""

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

from deploy.local import ServiceProcess

UPSTREAM = [
    "inference_latency_ms",
    "preprocessing_latency_ms",
    "onnx_latency_ms",
    "cache_hits_total",
    "cache_misses_total",
    "cache_hit_rate",
    "redis_memory_bytes",
    "inference_requests_total",
    "inference_errors_total",
    "inference_active_requests",
    "model_reloads_total",
    "model_loaded",
    "model_inference_count_total",
    "model_accuracy_meters",
]
"""Names that existing dashboards of the Heimdall system use, exactly."""


def get(worker: ServiceProcess, path: str) -> tuple[int, str]:
    """Status and body of a page."""
    where = urlsplit(worker.http_url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def page(worker: ServiceProcess, path: str) -> Any:
    """A JSON page."""
    return json.loads(get(worker, path)[1])


def value(worker: ServiceProcess, name: str, /, **labels: str) -> float:
    """Sum of the samples of that name whose labels agree."""
    found = 0.0
    for family in text_string_to_metric_families(get(worker, "/metrics")[1]):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                found += sample.value
    return found
