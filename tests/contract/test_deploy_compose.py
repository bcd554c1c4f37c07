"""docker-compose.yml and what it mounts: valid, complete, and nothing in it names what does not exist."""

import base64
import hashlib
import json
import re
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import check_jsonschema
import jsonschema
import pytest
import yaml

from deploy.local.broker import ALONE
from deploy.local.image import TARGETS
from tests.support.manifests import ROOT, amount
from tests.support.secured import settings_of
from worker.config import ENV_PREFIX, Settings

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DEFINITIONS = json.loads((ROOT / "deploy/rabbitmq/definitions.json").read_text(encoding="utf-8"))
USERS_ACL = (ROOT / "deploy/redis/users.acl").read_text(encoding="utf-8")
LISTENS = {"rabbitmq": {5672, 15672, 15692}, "redis": {6379}, "mlflow": {5000}, "worker": {8080}}
LISTENS |= {"prometheus": {9090}, "grafana": {3000}}
PROGRAM_BYTES = 512 * 1024**2


def test_it_is_a_compose_file() -> None:
    """By the schema of the compose specification; an unknown key fails."""
    schema = json.loads(
        (Path(check_jsonschema.__file__).parent / "builtin_schemas/vendor/compose-spec.json").read_text()
    )
    jsonschema.validate(COMPOSE, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**COMPOSE, "services": {"worker": {"imagine": "x"}}}, schema)


def test_everything_is_there() -> None:
    """Servers, two workers, registry, monitoring, and the demo behind its profile."""
    assert set(SERVICES) == {*LISTENS, "demo", "demo-model"}
    assert SERVICES["worker"]["deploy"]["replicas"] == 2
    assert {name for name, service in SERVICES.items() if service.get("profiles") == ["demo"]} == {"demo", "demo-model"}
    assert SERVICES["rabbitmq"]["image"].startswith("rabbitmq:4.")


def test_images_of_ours_are_targets_at_this_version() -> None:
    """And their build files exist."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    for service in SERVICES.values():
        if build := service.get("build"):
            assert build["target"] in TARGETS
            assert service["image"] == f"heimdall-{build['target']}:{version}"
            assert (ROOT / build["context"] / build["dockerfile"]).exists()


def test_published_ports_are_ones_that_the_service_listens_on() -> None:
    """What is published inside is served inside."""
    for name, service in SERVICES.items():
        inside = {int(port.rsplit(":", 1)[1]) for port in service.get("ports", [])}
        assert inside <= LISTENS.get(name, set())


def test_the_worker_would_start_with_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a setting, and together they pass its own checks; the client's variables are known too."""
    for name, service in SERVICES.items():
        ours = {k: v for k, v in (service.get("environment") or {}).items() if k.startswith(ENV_PREFIX)}
        assert {k.removeprefix(ENV_PREFIX).lower() for k in ours} <= Settings.model_fields.keys(), name
    for name, value in SERVICES["worker"]["environment"].items():
        monkeypatch.setenv(name, value)
    assert Settings().declare_topology is False


def test_hosts_ports_and_logins_in_urls_exist() -> None:
    """Each URL names a service, a port it listens on, and a login with its password."""
    for service in SERVICES.values():
        for value in (service.get("environment") or {}).values():
            for found in re.findall(r"\b(?:amqp|redis|http)://[^\s,]+", str(value)):
                url = urlsplit(found)
                assert url.port in LISTENS[url.hostname]
                if url.username:
                    assert _knows(url.scheme, url.username, url.password or "")


def _knows(scheme: str, user: str, password: str) -> bool:
    if scheme == "redis":
        return f"user {user} on #{hashlib.sha256(password.encode()).hexdigest()} " in USERS_ACL
    (stored,) = [base64.b64decode(u["password_hash"]) for u in DEFINITIONS["users"] if u["name"] == user]
    return stored[4:] == hashlib.sha256(stored[:4] + password.encode()).digest()


def test_every_login_of_the_laptop_has_its_name_as_password() -> None:
    """As docs/permissions.md says, for RabbitMQ and Redis; so nobody takes these files for secret ones."""
    assert all(_knows("amqp", user["name"], user["name"]) for user in DEFINITIONS["users"])
    hashed = re.findall(r"^user (\w+) on #", USERS_ACL, re.MULTILINE)
    assert hashed
    assert all(_knows("redis", user, user) for user in hashed)


def test_a_drain_ends_before_the_container_is_killed() -> None:
    """Docker waits longer than the worker's own grace period."""
    worker = SERVICES["worker"]
    assert float(worker["stop_grace_period"].removesuffix("s")) > float(worker["environment"]["HEIMDALL_GRACE_S"])


def test_the_memory_limit_holds_what_the_worker_may_take() -> None:
    """Budget, proof, what lies in /tmp (it is memory there), and the program itself."""
    worker = SERVICES["worker"]
    (tmp,) = [re.search(r"size=(\w+)", mount)[1] for mount in worker["tmpfs"]]
    budgets = [int(worker["environment"][f"HEIMDALL_{name}_BYTES"]) for name in ("MEMORY_BUDGET", "PROOF_MEMORY")]
    assert amount(worker["mem_limit"]) >= sum(budgets) + amount(tmp) + PROGRAM_BYTES


def test_health_and_order_are_stated() -> None:
    """Each server says when it is healthy, and nobody waits for one that does not say."""
    for name, service in SERVICES.items():
        for other, condition in (service.get("depends_on") or {}).items():
            assert other in SERVICES
            if condition["condition"] == "service_healthy":
                assert "test" in SERVICES[other]["healthcheck"], f"{name} waits for {other}"


def test_nothing_of_ours_runs_with_privileges() -> None:
    """No capability, no new privilege, and for the worker no writable root."""
    for name in ("worker", "demo", "demo-model", "mlflow", "redis", "prometheus", "grafana"):
        assert SERVICES[name]["cap_drop"] == ["ALL"]
        assert SERVICES[name]["security_opt"] == ["no-new-privileges:true"]
    assert SERVICES["worker"]["read_only"] is True


def test_prometheus_scrapes_services_that_are_there() -> None:
    """Names, ports and rule files; and Grafana asks that Prometheus."""
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text(encoding="utf-8"))
    assert all((ROOT / "deploy/prometheus" / file).exists() for file in config["rule_files"])
    for job in config["scrape_configs"]:
        for found in job.get("dns_sd_configs", []):
            assert all(found["port"] in LISTENS[name] for name in found["names"])
        for target in (t for found in job.get("static_configs", []) for t in found["targets"]):
            name, _, port = target.partition(":")
            assert int(port) in LISTENS[name]
    (source,) = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    url = urlsplit(source["url"])
    assert url.port in LISTENS[url.hostname]


def test_the_broker_enables_what_is_scraped() -> None:
    """Port 15692 is the Prometheus plugin's, 15672 the management plugin's."""
    plugins = (ROOT / "deploy/rabbitmq/enabled_plugins").read_text(encoding="utf-8")
    assert {"rabbitmq_management", "rabbitmq_prometheus"} <= set(re.findall(r"\w+", plugins))


def test_tls_configurations_have_no_plain_port() -> None:
    """And no version of TLS that is broken; the files are those that tests/integration/test_tls.py runs."""
    rabbitmq = settings_of(ROOT / "deploy/rabbitmq/tls.conf", "=")
    redis = settings_of(ROOT / "deploy/redis/tls.conf")
    assert rabbitmq["listeners.tcp"] == "none"
    assert redis["port"] == "0"
    assert {v for k, v in rabbitmq.items() if ".versions." in k} == {"tlsv1.2", "tlsv1.3"}
    assert redis["tls-protocols"] == "TLSv1.2 TLSv1.3"


def test_private_brokers_keep_the_log_of_the_deployed_one() -> None:
    """What tests and benchmark measure has the pieces of the quorum log that operators get."""
    deployed = settings_of(ROOT / "deploy/rabbitmq/rabbitmq.conf", "=")
    assert deployed.items() >= ALONE.items()
