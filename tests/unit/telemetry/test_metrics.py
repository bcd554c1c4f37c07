import re

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from schemas.problems import ErrorCode
from tests.support.metrics import UPSTREAM
from worker.telemetry.metrics import STAGES, Metrics

CLOSED_LABELS = {
    "outcome",
    "version",
    "code",
    "error_type",
    "stage",
    "level",
    "result",
    "name",
    "alias",
    "worker",
    "le",
}


@pytest.fixture
def metrics():
    """A catalogue of its own."""
    return Metrics()


def families(metrics):
    """What a Prometheus server reads."""
    return {family.name: family for family in text_string_to_metric_families(metrics.render().decode())}


def samples(metrics):
    """Names of all series that are exported."""
    return {sample.name for family in families(metrics).values() for sample in family.samples}


@pytest.mark.parametrize("name", UPSTREAM)
def test_existing_dashboards_find_their_names(metrics, name):
    """Every metric of the Heimdall system is exported under the name that it has there."""
    metrics.failed("expired")
    exported = samples(metrics)
    assert name in exported or f"{name}_count" in exported


def test_own_names_have_a_prefix_and_base_units(metrics):
    """Everything else begins with heimdall_, and times are seconds."""
    upstream = {name.removesuffix("_total") for name in UPSTREAM}
    own = {name.removesuffix("_created") for name in families(metrics)} - upstream
    assert all(name.startswith("heimdall_") for name in own)
    assert not [name for name in own if re.search(r"_(ms|milliseconds|kb|minutes)$", name)]


def test_labels_come_from_closed_sets(metrics):
    """No job, session or receiver is ever a label."""
    used = {label for value in vars(metrics).values() for label in getattr(value, "_labelnames", ())}
    assert used <= CLOSED_LABELS
    assert used


def test_every_metric_says_what_it_is(metrics):
    """Each has a sentence."""
    assert all(family.documentation.endswith(".") for family in families(metrics).values())


def test_errors_are_there_from_the_start(metrics):
    """A rate over the first error of a kind is no gap: all codes begin at zero."""
    for name in ("heimdall_errors_total", "heimdall_dead_letters_total"):
        counted = {
            sample.labels["code"]: sample.value
            for sample in families(metrics)[name.removesuffix("_total")].samples
            if sample.name == name
        }
        assert counted == dict.fromkeys(map(str, ErrorCode), 0.0)


def test_retiring_a_version_removes_its_series(metrics):
    """Versions come and go; their series go with them, the others stay."""
    for version in ("1", "2"):
        metrics.samples.labels(version).inc()
        metrics.runs.labels(version).inc()
        metrics.job.labels(version).observe(0.1)
    metrics.retire("1")
    text = metrics.render().decode()
    assert 'version="1"' not in text
    assert text.count('version="2"') > 2
    metrics.retire("1")
    metrics.retire("never")


def test_the_hit_rate_is_the_share_of_hits(metrics):
    """Before the first sample it is 0; counters and gauge agree."""
    assert metrics.cache_hit_rate == 0
    metrics.cache_result(3, 1)
    metrics.cache_result(0, 4)
    value = metrics.registry.get_sample_value
    assert metrics.cache_hit_rate == value("cache_hit_rate") == 3 / 8
    assert (value("cache_hits_total"), value("cache_misses_total")) == (3, 5)


def test_deliveries_and_errors_are_counted_under_both_names(metrics):
    """The second half of the catalogue repeats the first."""
    metrics.delivered(redelivered=False)
    metrics.delivered(redelivered=True)
    metrics.failed("expired")
    value = metrics.registry.get_sample_value
    assert value("heimdall_deliveries_total") == value("inference_requests_total") == 2
    assert value("heimdall_redeliveries_total") == 1
    assert value("heimdall_errors_total", {"code": "expired"}) == 1
    assert value("inference_errors_total", {"error_type": "expired"}) == 1


def test_a_registry_may_be_given():
    """Two catalogues do not meet; a given registry is used."""
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    Metrics()
    assert metrics.registry is registry
    for stage in STAGES:
        metrics.stage.labels(stage).observe(0.001)
    assert registry.get_sample_value("heimdall_stage_seconds_count", {"stage": "queue"}) == 1
