"""The dashboard and the alert rules, asked of a real Prometheus that scrapes a real worker and a real RabbitMQ."""

import asyncio
import json
import re
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from deploy.local import Broker, RedisServer, rabbit_node, rabbitmq
from deploy.local.ports import PortLease
from deploy.local.prometheus import prometheus
from tests.support.models import tone
from tests.support.stack import fresh_database
from tests.support.station import Station, publisher, station
from tests.support.worlds import copied_registry

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "deploy/grafana/dashboards/worker.json").read_text())
DEPLOYED = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
RULES = ROOT / "deploy/prometheus/alerts.yml"
QUERIES = [
    pytest.param(target["expr"], id=f"{panel['title']}, {target['refId']}")
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", ())
]
WINDOW = "20s"
NEEDS_MORE_THAN_JOBS = {
    "heimdall_model_failures_total": "a version failed on a sample",
    "heimdall_model_rollbacks_total": "a version was rolled back",
    "heimdall_shadow_distance_meters": "a shadow runs",
}
"""Without series until something happens that this test does not bring about; what does is said."""


@pytest.fixture(scope="module")
def measured_broker(monkeypatch_module: pytest.MonkeyPatch) -> Iterator[tuple[Broker, int]]:
    """A broker that shows its metrics, and the port it does so on."""
    monkeypatch_module.setattr(rabbit_node, "PLUGINS", "rabbitmq_management,rabbitmq_prometheus")
    lease = PortLease.take()
    metrics = {"prometheus.tcp.ip": "127.0.0.1", "prometheus.tcp.port": str(lease.port)}
    with rabbitmq(management=True, config=metrics) as broker:
        yield broker, lease.port
    lease.release()


@pytest.fixture(scope="module")
def monkeypatch_module() -> Iterator[pytest.MonkeyPatch]:
    """For the length of the module."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def world(
    measured_broker: tuple[Broker, int],
    redis_server: RedisServer,
    registry_file: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Station]:
    """A worker on that broker."""
    uri = copied_registry(registry_file, tmp_path_factory.mktemp("dashboard"))
    with fresh_database(redis_server) as redis_url, station(measured_broker[0].url, redis_url, uri) as it:
        it.worker()
        yield it


@pytest.fixture(scope="module")
def server(world: Station, measured_broker: tuple[Broker, int]) -> Iterator[str]:
    """A Prometheus with the deployed jobs at local addresses and a short interval; it has seen jobs come and go."""
    places = {
        "heimdall-worker": f"127.0.0.1:{urlsplit(world.workers[0].http_url).port}",
        "rabbitmq": f"127.0.0.1:{measured_broker[1]}",
    }
    jobs = [
        {key: value for key, value in job.items() if not key.endswith("_configs")}
        | {"static_configs": [{"targets": [places[job["job_name"]]]}]}
        for job in DEPLOYED["scrape_configs"]
    ]
    config = {
        "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
        "rule_files": [str(RULES)],
        "scrape_configs": jobs,
    }
    with prometheus(config) as url:
        asyncio.run(work(world, seconds=6))
        yield url


async def work(world: Station, *, seconds: float) -> None:
    """Jobs that are located, jobs that fail, and repeats, for a while."""
    async with publisher(world.amqp_url) as jobs:
        until, number = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            number += 1
            stamp = {"timestamp": int(time.time())}
            await jobs.locate(tone(number), job_id=f"good-{number}", properties=stamp)
            await jobs.locate(tone(number)[:-3], job_id=f"bad-{number}", properties=stamp)
            await jobs.locate(tone(number), job_id=f"good-{number}", properties=stamp)
            await asyncio.sleep(0.1)


def ask(server: str, path: str, **query: str) -> Any:
    """The data that the HTTP API answers with."""
    with urllib.request.urlopen(f"{server}/api/v1/{path}?{urllib.parse.urlencode(query)}", timeout=10) as answer:
        return json.load(answer)["data"]


def local(expression: str) -> str:
    """A panel's query, with what Grafana would put in place of its variables."""
    return expression.replace("$__rate_interval", WINDOW).replace("$instance", ".*")


@pytest.mark.parametrize("expression", QUERIES)
def test_every_query_of_the_dashboard_returns_data(expression: str, server: str) -> None:
    """Or else asks for a metric that exists and has no series before something has happened."""
    found = ask(server, "query", query=local(expression))["result"]
    named = set(re.findall(r"\b(?:heimdall|rabbitmq|redis)_[a-z_]+", expression))
    assert named
    if named & {name + suffix for name in NEEDS_MORE_THAN_JOBS for suffix in ("", "_bucket")}:
        families = {re.sub(r"_(total|bucket)$", "", name) for name in named}
        known = {re.sub(r"_total$", "", name) for name in ask(server, "metadata")}
        assert families <= known
    else:
        assert found
        assert all(sample["value"][1] != "NaN" for sample in found)


def test_every_query_of_the_alerts_asks_for_metrics_that_exist(server: str) -> None:
    """The rules are loaded and evaluated without an error, and name nothing that nobody exports."""
    rules = ask(server, "rules")["groups"][0]["rules"]
    assert rules
    known = set(ask(server, "metadata")) | {"up"}
    known |= {f"{name}_bucket" for name in known} | {f"{name}_total" for name in known}
    for rule in rules:
        assert rule["health"] == "ok", rule.get("lastError")
        assert set(re.findall(r"\b(?:(?:heimdall|rabbitmq|redis)_[a-z_]+|up)\b", rule["query"])) <= known


def test_dead_letters_fire_their_alert(server: str) -> None:
    """What the unit tests of the rules promise happens with a real worker too, and nothing else is alarmed."""
    deadline = time.monotonic() + 20
    while not (firing := [a for a in ask(server, "alerts")["alerts"] if a["state"] == "firing"]):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert {(alert["labels"]["alertname"], alert["labels"].get("code")) for alert in firing} == {
        ("HeimdallDeadLetters", "malformed_iq")
    }


def test_the_variable_of_the_dashboard_lists_the_workers(server: str, world: Station) -> None:
    """`label_values(metric, label)` names a metric and a label that are there."""
    asked = DASHBOARD["templating"]["list"][0]["query"]["query"]
    metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", asked).groups()
    values = ask(server, f"label/{label}/values", **{"match[]": metric})
    assert values == [f"127.0.0.1:{urlsplit(world.workers[0].http_url).port}"]


def test_grafana_finds_its_dashboards_and_its_server() -> None:
    """The provisioned folder and data source are those that the compose file mounts and the panels name."""
    folder = ROOT / "deploy/grafana/provisioning"
    provider = yaml.safe_load((folder / "dashboards/heimdall.yml").read_text())["providers"][0]
    source = yaml.safe_load((folder / "datasources/prometheus.yml").read_text())["datasources"][0]
    grafana = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]
    mounts = dict(volume.split(":")[:2] for volume in grafana["volumes"])
    assert mounts["./deploy/grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
    sources = {t["datasource"]["uid"] for panel in DASHBOARD["panels"] for t in panel.get("targets", ())}
    assert sources == {source["uid"]}


def test_panels_do_not_overlap() -> None:
    """Each cell of the grid belongs to one panel."""
    taken: dict[tuple[int, int], str] = {}
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]
                assert x < 24
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
