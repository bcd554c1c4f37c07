"""docs/metrics.md lists what /metrics exports, no more and no less."""

import re

from prometheus_client.parser import text_string_to_metric_families

from docs.tables import LABELS
from tests.contract.examples import ROOT
from tests.support.metrics import UPSTREAM
from worker.telemetry.metrics import Metrics

PAGE = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| `([a-z_]+)` \| (counter|gauge|histogram) \|", PAGE, re.MULTILINE))


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
    assert {name for name in ROWS if not name.startswith("heimdall_")} == set(UPSTREAM)


def test_every_label_that_is_used_is_explained_and_no_other() -> None:
    """Labels are closed sets, and the page says which."""
    used = {label for row in PAGE.split("## Labels")[0].splitlines() for label in labels(row)}
    assert used == set(LABELS)


def labels(row: str) -> list[str]:
    """Labels in a row of the table of metrics."""
    cells = row.split(" | ")
    return re.findall(r"`([a-z_]+)`", cells[2]) if row.startswith("| `") else []
