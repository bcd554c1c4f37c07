"""docs/metrics.md lists what /metrics exports, no more and no less."""

import re

from prometheus_client.parser import text_string_to_metric_families

from docs.tables import LABELS
from tests.contract.examples import ROOT
from worker.telemetry.metrics import Metrics

PAGE = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| `([a-z_]+)` \| (counter|gauge|histogram) \|", PAGE, re.MULTILINE))
COMPATIBLE = {
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
}


def test_documented_metrics_are_the_exported_ones() -> None:
    """Name and type of each family of a scrape."""
    families = text_string_to_metric_families(Metrics().render().decode())
    exported = {
        f"{family.name}_total" if family.type == "counter" else family.name: family.type
        for family in families
        if not family.name.endswith("_created")
    }
    assert exported == ROWS


def test_the_names_that_other_dashboards_use_are_there() -> None:
    """Exactly these, beside our own."""
    assert {name for name in ROWS if not name.startswith("heimdall_")} == COMPATIBLE


def test_every_label_that_is_used_is_explained_and_no_other() -> None:
    """Labels are closed sets, and the page says which."""
    used = {label for row in PAGE.split("## Labels")[0].splitlines() for label in labels(row)}
    assert used == set(LABELS)


def labels(row: str) -> list[str]:
    """Labels in a row of the table of metrics."""
    cells = row.split(" | ")
    return re.findall(r"`([a-z_]+)`", cells[2]) if row.startswith("| `") else []
