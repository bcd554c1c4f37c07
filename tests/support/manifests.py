"""The Kubernetes files as kustomize renders them, and schemas for the kinds that operators bring."""

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy/kubernetes"
OVERLAYS = ("small", "clustered")
_OLDEST_KUSTOMIZE = 5

Manifest = dict[str, Any]


@cache
def rendered(directory: Path) -> tuple[Manifest, ...]:
    """Every resource of a kustomization, rendered by kubectl; skips where there is none."""
    if _kustomize_version() < _OLDEST_KUSTOMIZE:
        pytest.skip(f"rendering needs kubectl with kustomize {_OLDEST_KUSTOMIZE} or later")
    done = subprocess.run(["kubectl", "kustomize", str(directory)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def overlay(name: str) -> tuple[Manifest, ...]:
    """Every resource of an overlay."""
    return rendered(KUBERNETES / "overlays" / name)


def of_kind(manifests: tuple[Manifest, ...], kind: str, name: str | None = None) -> list[Manifest]:
    """The resources of a kind, perhaps of one name."""
    return [m for m in manifests if m["kind"] == kind and name in (None, m["metadata"]["name"])]


def only(manifests: tuple[Manifest, ...], kind: str, name: str) -> Manifest:
    """The one resource of this kind and name."""
    (found,) = of_kind(manifests, kind, name)
    return found


def amount(quantity: str) -> int:
    """Bytes of a quantity such as `3Gi` or `512m` as Kubernetes and compose write them."""
    number, unit = re.fullmatch(r"(\d+)([a-zA-Z]*)", quantity).groups()
    return int(number) * 1024 ** ["", "k", "m", "g"].index(unit.lower().rstrip("ib"))


@cache
def _kustomize_version() -> int:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        return 0
    said = subprocess.run([kubectl, "version", "--client"], check=False, capture_output=True, text=True).stdout
    found = re.search(r"Kustomize Version: v(\d+)", said)
    return int(found[1]) if found else 0


def _object(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


_TEXT, _COUNT, _FLAG = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
_NAMED = _object(("name",), name=_TEXT)
_ANYTHING = {"type": "object"}
_TEXTS = {"type": "object", "additionalProperties": _TEXT}
_CLUSTER = {"rabbitmqClusterReference": _NAMED}
_TAG = {"enum": ["management", "policymaker", "monitoring", "administrator"]}
_TRIGGER = _object(("type", "metadata"), type=_TEXT, name=_TEXT, metadata=_TEXTS, authenticationRef=_NAMED)
_SECRET_KEY = _object(("parameter", "name", "key"), parameter=_TEXT, name=_TEXT, key=_TEXT)

OPERATED: dict[tuple[str, str], dict[str, Any]] = {
    ("keda.sh/v1alpha1", "ScaledObject"): _object(
        ("scaleTargetRef", "triggers"),
        scaleTargetRef=_object(("name",), apiVersion=_TEXT, kind=_TEXT, name=_TEXT),
        minReplicaCount=_COUNT,
        maxReplicaCount=_COUNT,
        pollingInterval=_COUNT,
        cooldownPeriod=_COUNT,
        fallback=_object(("failureThreshold", "replicas"), failureThreshold=_COUNT, replicas=_COUNT),
        advanced=_object(horizontalPodAutoscalerConfig=_object(behavior=_ANYTHING)),
        triggers={"type": "array", "minItems": 1, "items": _TRIGGER},
    ),
    ("keda.sh/v1alpha1", "TriggerAuthentication"): _object(secretTargetRef={"type": "array", "items": _SECRET_KEY}),
    ("rabbitmq.com/v1beta1", "RabbitmqCluster"): _object(
        replicas=_COUNT,
        image=_TEXT,
        persistence=_object(storage=_TEXT, storageClassName=_TEXT),
        resources=_ANYTHING,
        affinity=_ANYTHING,
        tls=_object(secretName=_TEXT, caSecretName=_TEXT, disableNonTLSListeners=_FLAG),
        rabbitmq=_object(additionalConfig=_TEXT, additionalPlugins={"type": "array", "items": _TEXT}),
    ),
    ("rabbitmq.com/v1beta1", "Exchange"): _object(
        ("name", *_CLUSTER), name=_TEXT, type=_TEXT, durable=_FLAG, vhost=_TEXT, arguments=_ANYTHING, **_CLUSTER
    ),
    ("rabbitmq.com/v1beta1", "Queue"): _object(
        ("name", *_CLUSTER), name=_TEXT, type=_TEXT, durable=_FLAG, vhost=_TEXT, arguments=_ANYTHING, **_CLUSTER
    ),
    ("rabbitmq.com/v1beta1", "Binding"): _object(
        tuple(_CLUSTER),
        source=_TEXT,
        destination=_TEXT,
        destinationType={"enum": ["exchange", "queue"]},
        routingKey=_TEXT,
        vhost=_TEXT,
        **_CLUSTER,
    ),
    ("rabbitmq.com/v1beta1", "User"): _object(
        tuple(_CLUSTER), tags={"type": "array", "items": _TAG}, importCredentialsSecret=_NAMED, **_CLUSTER
    ),
    ("rabbitmq.com/v1beta1", "Permission"): _object(
        ("permissions", "vhost", *_CLUSTER),
        vhost=_TEXT,
        userReference=_NAMED,
        permissions=_object(configure=_TEXT, read=_TEXT, write=_TEXT),
        **_CLUSTER,
    ),
    ("rabbitmq.com/v1beta1", "TopicPermission"): _object(
        ("permissions", "vhost", *_CLUSTER),
        vhost=_TEXT,
        userReference=_NAMED,
        permissions=_object(("exchange",), exchange=_TEXT, read=_TEXT, write=_TEXT),
        **_CLUSTER,
    ),
}
"""Schema of `spec`, for the fields that are used here and no others. Read from the custom resource definitions in
config/crd/bases of kedacore/keda, rabbitmq/cluster-operator and rabbitmq/messaging-topology-operator."""
