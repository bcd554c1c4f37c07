"""deploy/kubernetes: valid, complete, and nothing in it names what does not exist."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import kubernetes_validate
import pytest
import yaml
from aiohttp import web

from deploy.local.broker import ALONE
from tests.support.manifests import (
    KUBERNETES,
    OPERATED,
    OVERLAYS,
    ROOT,
    Manifest,
    amount,
    of_kind,
    only,
    overlay,
    rendered,
)
from tests.support.secured import settings_of
from worker.config import ENV_PREFIX, Settings
from worker.telemetry.http import HttpServer
from worker.telemetry.metrics import Metrics

DEFINITIONS = json.loads((ROOT / "deploy/rabbitmq/definitions.json").read_text(encoding="utf-8"))
PAGE = (ROOT / "docs/deployment.md").read_text(encoding="utf-8")
RENAMING = PAGE.split("### Change a limit of a queue")[1]
JOBS = "heimdall.inference"
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8")
PROGRAM_BYTES = 512 * 1024**2
"""The interpreter, its libraries and the models that serve."""
LONGEST_LATE_S = 30
ELSEWHERE = ".example"
"""Hosts that whoever deploys has to name."""


@pytest.fixture(params=OVERLAYS)
def manifests(request: pytest.FixtureRequest) -> tuple[Manifest, ...]:
    """Every resource of an overlay."""
    return overlay(request.param)


def worker(manifests: tuple[Manifest, ...]) -> tuple[Manifest, Manifest]:
    """Pod and container of the worker."""
    pod = only(manifests, "Deployment", "heimdall-worker")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    return pod, container


def environment(manifests: tuple[Manifest, ...]) -> dict[str, str]:
    """The worker's variables as its process sees them, each password `secret`."""
    _, container = worker(manifests)
    (source,) = container["envFrom"]
    variables = dict(only(manifests, "ConfigMap", source["configMapRef"]["name"])["data"])
    seen: dict[str, str] = {}
    for entry in container["env"]:
        value = entry.get("value", "secret")
        # As the kubelet does it: only what stands before may be used.
        seen[entry["name"]] = re.sub(r"\$\((\w+)\)", lambda match: seen.get(match[1], match[0]), value)
    return variables | seen


def test_every_file_is_listed_and_every_listed_file_exists() -> None:
    """No resource is forgotten by its kustomization, and none is made up."""
    listed, unlisted = set(), {file for file in KUBERNETES.rglob("*.yaml") if file.name != "kustomization.yaml"}
    for file in KUBERNETES.rglob("kustomization.yaml"):
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        patches = [patch["path"] for patch in content.get("patches", [])]
        for entry in [*content.get("resources", []), *content.get("components", []), *patches]:
            path = (file.parent / entry).resolve()
            assert path.exists(), f"{file.relative_to(ROOT)} lists {entry}"
            listed.add(path)
    assert unlisted - listed == set()


def test_every_resource_is_valid(manifests: tuple[Manifest, ...]) -> None:
    """By the schemas of Kubernetes, strictly, and by those of the operators' kinds."""
    for manifest in manifests:
        kind = (manifest["apiVersion"], manifest["kind"])
        if kind in OPERATED:
            assert set(manifest) == {"apiVersion", "kind", "metadata", "spec"}
            jsonschema.validate(manifest["spec"], OPERATED[kind])
        else:
            kubernetes_validate.validate(manifest, "1.31", strict=True)


@pytest.mark.parametrize(("where", "wrong"), [("replicas", "two"), ("replica", 2)])
def test_a_misspelt_field_would_be_found(where: str, wrong: object) -> None:
    """The check can fail: by a wrong type, and by an unknown name."""
    cluster = only(overlay("small"), "RabbitmqCluster", "rabbitmq")["spec"] | {where: wrong}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(cluster, OPERATED["rabbitmq.com/v1beta1", "RabbitmqCluster"])
    deployment = only(overlay("small"), "Deployment", "heimdall-worker")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**deployment, "spec": {**deployment["spec"], where: wrong}}, "1.31", strict=True)


def test_everything_that_is_promised_is_there(manifests: tuple[Manifest, ...]) -> None:
    """The kinds that the deployment page speaks of, all in one namespace."""
    assert {
        *("Deployment", "Service", "ServiceAccount", "ConfigMap", "PodDisruptionBudget", "NetworkPolicy"),
        *("ScaledObject", "TriggerAuthentication", "RabbitmqCluster"),
        *("Exchange", "Queue", "Binding", "User", "Permission", "TopicPermission"),
    } <= {manifest["kind"] for manifest in manifests}
    (namespace,) = of_kind(manifests, "Namespace")
    names = {m["metadata"].get("namespace") for m in manifests if m["kind"] != "Namespace"}
    assert names == {namespace["metadata"]["name"]}


def test_the_worker_would_start_with_its_variables(
    manifests: tuple[Manifest, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each is a setting that exists, and together they pass the worker's own checks."""
    (tmp_path / "ca.crt").write_text("")
    variables = {k: v.replace("/etc/heimdall/ca", str(tmp_path)) for k, v in environment(manifests).items()}
    ours = {name for name in variables if name.startswith(ENV_PREFIX)}
    assert {name.removeprefix(ENV_PREFIX).lower() for name in ours} <= Settings.model_fields.keys()
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.control_users == ("operator",)
    assert "secret" in settings.amqp_url.get_secret_value(), "the password is not filled in"


def test_a_drain_ends_before_the_pod_is_killed(manifests: tuple[Manifest, ...]) -> None:
    """Kubernetes waits longer than the worker's own grace period, and not much longer."""
    grace_s = float(environment(manifests)["HEIMDALL_GRACE_S"])
    pod, _ = worker(manifests)
    assert grace_s < pod["terminationGracePeriodSeconds"] <= grace_s + LONGEST_LATE_S


def test_the_memory_limit_holds_what_the_worker_may_take(manifests: tuple[Manifest, ...]) -> None:
    """Bodies and batches in its budget, the proof of a new version beside them, and the program itself."""
    _, container = worker(manifests)
    variables = environment(manifests)
    needed = int(variables["HEIMDALL_MEMORY_BUDGET_BYTES"]) + int(variables["HEIMDALL_PROOF_MEMORY_BYTES"])
    assert amount(container["resources"]["limits"]["memory"]) >= needed + PROGRAM_BYTES


async def test_probes_and_scrapes_ask_what_the_worker_answers(manifests: tuple[Manifest, ...]) -> None:
    """Their paths are routes of its HTTP server, on its port; none but readiness depends on other servers."""
    pod = only(manifests, "Deployment", "heimdall-worker")["spec"]["template"]
    _, container = worker(manifests)
    paths = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}
    assert paths == {"startup": "/health/live", "liveness": "/health/live", "readiness": "/health/ready"}
    annotations = pod["metadata"]["annotations"]
    assert {*paths.values(), annotations["prometheus.io/path"]} <= routes()
    ports = {port["containerPort"] for port in container["ports"]}
    assert ports == {Settings.model_fields["http_port"].default} == {int(annotations["prometheus.io/port"])}
    assert {container[f"{name}Probe"]["httpGet"]["port"] for name in ("startup", "liveness", "readiness")} == {"http"}


def routes() -> set[str]:
    """Paths of the worker's HTTP server."""

    class Healthy:
        live = ready = startup = staticmethod(list)

    application: web.Application = HttpServer(Metrics(), Healthy(), {})._runner.app  # type: ignore[arg-type]
    return {resource.canonical for resource in application.router.resources()}


def test_nothing_runs_as_root_or_writes_to_its_image(manifests: tuple[Manifest, ...]) -> None:
    """The numbers are those of the images' own configuration."""
    users = dict(re.findall(r"^FROM \S+ AS (\S+)\n(?:(?!FROM).*\n)*?USER (\d+)", DOCKERFILE, re.MULTILINE))
    for manifest in (*of_kind(manifests, "Deployment"), *of_kind(manifests, "StatefulSet")):
        pod = manifest["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert security["allowPrivilegeEscalation"] is False
            stage = {"worker": "runtime", "mlflow": "mlflow"}.get(container["name"])
            if stage:
                assert pod["securityContext"]["runAsUser"] == int(users[stage])


def test_images_are_ours_at_this_version_or_pinned(manifests: tuple[Manifest, ...]) -> None:
    """Ours are targets of the Dockerfile; others have a minor version."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    targets = set(re.findall(r"^FROM \S+ AS (\S+)", DOCKERFILE, re.MULTILINE))
    images = {c["image"] for m in manifests for c in _containers(m)}
    images |= {m["spec"]["image"] for m in of_kind(manifests, "RabbitmqCluster")}
    for image in images:
        name, _, tag = image.partition(":")
        if name.startswith("heimdall-"):
            assert (name.removeprefix("heimdall-") in targets, tag) == (True, version)
        else:
            assert re.match(r"\d+\.\d+", tag), image


def _containers(manifest: Manifest) -> list[Manifest]:
    return manifest.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])


def test_selectors_and_names_find_something(manifests: tuple[Manifest, ...]) -> None:
    """Services, budgets, spreads and the scaler select pods that are there."""
    pods = [m["spec"]["template"]["metadata"]["labels"] for m in manifests if _containers(m)]
    pods += [{"app.kubernetes.io/name": m["metadata"]["name"]} for m in of_kind(manifests, "RabbitmqCluster")]
    selectors = [m["spec"]["selector"] for m in of_kind(manifests, "Service")]
    selectors += [m["spec"]["selector"]["matchLabels"] for m in of_kind(manifests, "PodDisruptionBudget")]
    selectors += [m["spec"]["podSelector"]["matchLabels"] for m in of_kind(manifests, "NetworkPolicy")]
    for selector in selectors:
        assert any(selector.items() <= labels.items() for labels in pods), selector
    scaler = only(manifests, "ScaledObject", "heimdall-worker")["spec"]
    assert of_kind(manifests, "Deployment", scaler["scaleTargetRef"]["name"])
    pod, _ = worker(manifests)
    assert of_kind(manifests, "ServiceAccount", pod["serviceAccountName"])


def test_every_secret_is_made_by_the_page(manifests: tuple[Manifest, ...]) -> None:
    """Each Secret and each key of it is in a command of docs/deployment.md."""
    commands = re.findall(r"kubectl -n heimdall create secret (?:generic|tls) ([\w-]+)(.*)", PAGE.replace("\\\n", " "))
    made = {(name, key) for name, options in commands for key in _keys(options)}
    wanted = set(_secret_keys(list(manifests)))
    assert wanted
    assert wanted <= made, wanted - made


def _keys(options: str) -> set[str]:
    keys = set(re.findall(r"--from-(?:literal|file)=([\w.]+)=", options))
    return keys | ({"tls.crt", "tls.key"} if "--cert=" in options else set())


def _secret_keys(node: Any) -> list[tuple[str, str]]:
    """(name, key) of each Secret that is used, wherever it stands."""
    if isinstance(node, list):
        return [found for item in node for found in _secret_keys(item)]
    if not isinstance(node, dict):
        return []
    here: list[tuple[str, str]] = []
    if "secretKeyRef" in node:
        here.append((node["secretKeyRef"]["name"], node["secretKeyRef"]["key"]))
    if "secretName" in node and "items" in node:
        here += [(node["secretName"], item["key"]) for item in node["items"]]
    if "caSecretName" in node:
        here += [(node["caSecretName"], "ca.crt"), *((node["secretName"], key) for key in ("tls.crt", "tls.key"))]
    if "importCredentialsSecret" in node:
        here += [(node["importCredentialsSecret"]["name"], key) for key in ("username", "password")]
    here += [(ref["name"], ref["key"]) for ref in node.get("secretTargetRef", [])]
    return here + [found for value in node.values() for found in _secret_keys(value)]


def test_hosts_are_services_of_the_namespace_and_reachable(manifests: tuple[Manifest, ...]) -> None:
    """Each URL of the worker leads to a service that is there, on a port that its network policy lets out."""
    services = {m["metadata"]["name"] for m in (*of_kind(manifests, "Service"), *of_kind(manifests, "RabbitmqCluster"))}
    rules = only(manifests, "NetworkPolicy", "heimdall-worker")["spec"]["egress"]
    let_out = {port["port"] for rule in rules for port in rule["ports"]}
    for name in ("AMQP_URL", "REDIS_URL", "MLFLOW_TRACKING_URI"):
        url = urlsplit(environment(manifests)[ENV_PREFIX + name])
        assert url.hostname in services or url.hostname.endswith(ELSEWHERE), url.hostname
        assert (url.port or {"https": 443}[url.scheme]) in let_out


def test_rabbitmq_has_what_the_definitions_have(manifests: tuple[Manifest, ...]) -> None:
    """The operators' resources make the same topology and the same least-privilege users as the laptop's file."""
    specs = {kind: [m["spec"] for m in of_kind(manifests, kind)] for _, kind in OPERATED}
    assert {(s["name"], s["type"], s["durable"], str(s.get("arguments", {}))) for s in specs["Exchange"]} == {
        (e["name"], e["type"], e["durable"], str(e["arguments"])) for e in DEFINITIONS["exchanges"]
    }
    assert {s["name"]: {"x-queue-type": s["type"], **s["arguments"]} for s in specs["Queue"]} == {
        q["name"]: q["arguments"] for q in DEFINITIONS["queues"]
    }
    assert {(s["source"], s["destination"], s["routingKey"]) for s in specs["Binding"]} == {
        (b["source"], b["destination"], b["routing_key"]) for b in DEFINITIONS["bindings"]
    }
    assert _granted(specs["Permission"]) == _rights("permissions", "configure", "write", "read")
    assert _granted(specs["TopicPermission"]) == _rights("topic_permissions", "exchange", "write", "read")


def _granted(specs: list[Manifest]) -> set[tuple[str, str]]:
    return {(s["userReference"]["name"], json.dumps(s["permissions"], sort_keys=True)) for s in specs}


def _rights(table: str, *fields: str) -> set[tuple[str, str]]:
    rows = [row for row in DEFINITIONS[table] if row["user"] != "heimdall"]
    return {(f"heimdall-{row['user']}", json.dumps({f: row[f] for f in fields}, sort_keys=True)) for row in rows}


def test_rabbitmq_s_users_are_those_of_the_definitions(manifests: tuple[Manifest, ...]) -> None:
    """With the same tags, but for `impersonator`, which the operator does not know and the page says how to set."""
    users = {m["metadata"]["name"]: set(m["spec"].get("tags", [])) for m in of_kind(manifests, "User")}
    wanted = {f"heimdall-{u['name']}": set(u["tags"]) for u in DEFINITIONS["users"] if u["name"] != "heimdall"}
    assert users == {name: tags - {"impersonator"} for name, tags in wanted.items()}
    for name in (name for name, tags in wanted.items() if "impersonator" in tags):
        assert f"set_user_tags {name.removeprefix('heimdall-')} impersonator" in PAGE


def test_rabbitmq_is_configured_as_on_a_laptop(manifests: tuple[Manifest, ...]) -> None:
    """But for the definitions, which the operator makes, and what holds for a node by itself alone."""
    said = only(manifests, "RabbitmqCluster", "rabbitmq")["spec"]["rabbitmq"]["additionalConfig"]
    lines = dict(line.split(" = ") for line in said.strip().splitlines())
    laptop = settings_of(ROOT / "deploy/rabbitmq/rabbitmq.conf", "=")
    assert lines == {name: value for name, value in laptop.items() if name not in {"load_definitions", *ALONE}}


def test_the_scaler_counts_what_workers_hold(manifests: tuple[Manifest, ...]) -> None:
    """A queue that exists, unacknowledged jobs included, and a target that one worker's prefetch does not reach."""
    (trigger,) = only(manifests, "ScaledObject", "heimdall-worker")["spec"]["triggers"]
    metadata = trigger["metadata"]
    assert metadata["queueName"] in {queue["name"] for queue in DEFINITIONS["queues"]}
    assert (metadata["protocol"], metadata["excludeUnacknowledged"]) == ("http", "false")
    assert int(metadata["value"]) > int(environment(manifests)["HEIMDALL_PREFETCH_COUNT"])
    (namespace,) = of_kind(manifests, "Namespace")
    assert urlsplit(metadata["host"]).hostname == f"rabbitmq.{namespace['metadata']['name']}.svc"
    assert of_kind(manifests, "TriggerAuthentication", trigger["authenticationRef"]["name"])


def test_the_way_to_another_queue_leaves_no_file_out() -> None:
    """Whatever names the queue of the jobs is to be changed with it."""
    folder = ROOT / "deploy"
    texts = {
        file: file.read_text(encoding="utf-8") for file in folder.rglob("*.*") if file.suffix not in {".py", ".pyc"}
    }
    naming = {file for file, text in texts.items() if JOBS in text or "(inference|" in text}
    assert len(naming) == 9
    named = {str(file.relative_to(folder)).removeprefix("kubernetes/") for file in naming}
    assert {name for name in named if name not in RENAMING} == set()


def test_the_way_to_another_queue_changes_the_permission_that_is_there() -> None:
    """Its pattern is the worker's own, with the new name beside the old, and matches both."""
    (now,) = (row["read"] for row in DEFINITIONS["permissions"] if row["user"] == "worker")
    then = now.replace("inference", "inference|inference-2")
    assert f"`{then}`" in RENAMING
    assert all(re.search(then, name) for name in (JOBS, f"{JOBS}-2", "heimdall.control"))
    assert not re.search(now, f"{JOBS}-2")


def test_the_way_to_another_queue_names_resources_that_are_there(manifests: tuple[Manifest, ...]) -> None:
    """The ones to delete are those of the old queue."""
    deleted = dict(re.findall(r"delete (\w+)\.rabbitmq\.com ([\w-]+)", RENAMING))
    assert only(manifests, "Binding", deleted["bindings"])["spec"]["destination"] == JOBS
    assert only(manifests, "Queue", deleted["queues"])["spec"]["name"] == JOBS


def test_the_clustered_overlay_speaks_tls_alone() -> None:
    """Both URLs are encrypted and name the authority, and the plain port of RabbitMQ is closed to the namespace."""
    manifests = overlay("clustered")
    variables = environment(manifests)
    assert variables["HEIMDALL_AMQP_URL"].startswith("amqps://")
    assert "cafile=/etc/heimdall/ca/ca.crt" in variables["HEIMDALL_AMQP_URL"]
    assert variables["HEIMDALL_REDIS_URL"].startswith("rediss://")
    rules = only(manifests, "NetworkPolicy", "rabbitmq")["spec"]["ingress"]
    assert 5672 not in {port["port"] for rule in rules for port in rule["ports"]}


def test_the_gpu_component_changes_image_resources_and_providers(tmp_path: Path) -> None:
    """On top of an overlay, as the page says."""
    up = "../" * len(tmp_path.parts)
    kustomization = {
        "resources": [f"{up}{KUBERNETES}/overlays/small".replace("//", "/")],
        "components": [f"{up}{KUBERNETES}/gpu".replace("//", "/")],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    manifests = rendered(tmp_path)
    _, container = worker(manifests)
    assert container["image"].startswith("heimdall-worker-gpu:")
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert environment(manifests)["HEIMDALL_PROVIDERS"].split(",") == ["CUDAExecutionProvider", "CPUExecutionProvider"]
    kubernetes_validate.validate(only(manifests, "Deployment", "heimdall-worker"), "1.31", strict=True)
