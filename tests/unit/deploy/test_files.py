"""The configuration files agree with each other and with the wire."""

import json
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[3]
DEFINITIONS = json.loads((ROOT / "deploy/rabbitmq/definitions.json").read_text())
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def test_every_binding_joins_what_is_declared() -> None:
    """No exchange or queue is named that the definitions do not make."""
    exchanges = {exchange["name"] for exchange in DEFINITIONS["exchanges"]}
    queues = {queue["name"] for queue in DEFINITIONS["queues"]}
    assert {binding["source"] for binding in DEFINITIONS["bindings"]} <= exchanges
    assert {binding["destination"] for binding in DEFINITIONS["bindings"]} == queues
    for item in [*DEFINITIONS["exchanges"], *DEFINITIONS["queues"]]:
        arguments = item["arguments"]
        assert arguments.get("alternate-exchange", "heimdall.iq") in exchanges
        assert arguments.get("x-dead-letter-exchange", "heimdall.dead") in exchanges


def test_every_queue_is_bounded_and_replicated() -> None:
    """A full broker refuses publishers of jobs and drops the oldest of what failed; no queue grows without limit."""
    overflow = {queue["name"]: queue["arguments"]["x-overflow"] for queue in DEFINITIONS["queues"]}
    assert overflow.pop("heimdall.inference") == "reject-publish"
    assert set(overflow.values()) == {"drop-head"}
    for queue in DEFINITIONS["queues"]:
        assert queue["arguments"]["x-queue-type"] == "quorum"
        assert 0 < queue["arguments"]["x-max-length-bytes"] <= 2**30


def test_no_port_is_published_beyond_loopback() -> None:
    """The stack on a laptop is not a service for its network."""
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_every_image_is_pinned_and_every_mount_exists() -> None:
    """A minor version or closer, and no path that Docker would silently make a directory of."""
    for service in COMPOSE["services"].values():
        assert re.search(r":v?\d+\.\d+", service.get("image", ":1.0"))
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert source in COMPOSE["volumes"] or (ROOT / source).exists(), source


def test_the_dashboard_and_alerts_ask_for_known_metrics() -> None:
    """Each `heimdall_*` name in a query is one the worker's catalogue has."""
    catalogue = set(re.findall(r'"(heimdall_\w+)"', (ROOT / "worker/telemetry/metrics.py").read_text()))
    for file in ("deploy/grafana/dashboards/worker.json", "deploy/prometheus/alerts.yml"):
        asked = set(re.findall(r"heimdall_[a-z_]+", (ROOT / file).read_text()))
        assert {re.sub(r"_(total|bucket)$", "", name) for name in asked} <= catalogue
