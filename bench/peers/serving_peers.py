"""Peers that serve behind HTTP, each fed from the queue by the same bridge."""

import json
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final

from bench.peers.peer import Command, Peer, RunSettings

Argv = Callable[[Peer, RunSettings, int], Sequence[str]]
Env = Callable[[Peer, RunSettings, int], Mapping[str, str]]

BRIDGE: Final = (
    "aio-pika and aiohttp on uvloop: a request in flight for every job held (four batches), kept connections; "
    "what is answered meanwhile is settled together: one Redis pipeline, confirms gathered, one ack for many"
)
_LEASES: Final[list[object]] = []
"""Held, and so the ports stay ours."""

COMMON: Final = {
    "model workers": "1, as the worker is one process; the other core is for the bridge, the HTTP side and the broker",
    "bridge": BRIDGE,
}


@cache
def _port(name: str) -> int:
    """Ports of the peers that this process starts, one to each, its own until it ends."""
    # The peers' processes import this package too, without what the local stack needs.
    from deploy.local.ports import PortLease  # noqa: PLC0415

    del name
    lease = PortLease.take()
    _LEASES.append(lease)
    return lease.port


def _server(argv: Argv, health: str, env: Env | None = None) -> Callable[[Peer, RunSettings], Sequence[Command]]:
    def start(peer: Peer, settings: RunSettings) -> Sequence[Command]:
        port = _port(peer.name)
        url = f"http://127.0.0.1:{port}"
        common = settings.environment() | {"PORT": str(port)}
        own = env(peer, settings, port) if env else common
        python, dialect = peer.program("python"), {"SERVER_URL": url, "DIALECT": peer.name, "HEALTH_PATH": health}
        launched = (python, "-m", "bench.peers.launch", url + health, *argv(peer, settings, port))
        return [
            Command(f"{peer.name}-server", launched, {**common, **own}),
            Command(f"{peer.name}-bridge", (python, "-m", "bench.peers.bridge"), common | dialect),
        ]

    return start


def _module(peer: Peer, _settings: RunSettings, _port: int) -> Sequence[str]:
    return (peer.program("python"), "-m", f"{peer.module}.server")


def _mosec(peer: Peer, settings: RunSettings, port: int) -> Sequence[str]:
    options = ("--address", "127.0.0.1", "--port", str(port), "--timeout", "60000", "--log-level", "warning")
    return (*_module(peer, settings, port), *options)


def _bentoml(peer: Peer, _settings: RunSettings, port: int) -> Sequence[str]:
    where = ("--host", "127.0.0.1", "--port", str(port))
    return (peer.program("bentoml"), "serve", f"{peer.module}.server:Locator", *where)


def _bentoml_env(peer: Peer, _settings: RunSettings, _port: int) -> Mapping[str, str]:
    return {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(peer.venv / "home")}


def _mlserver(peer: Peer, settings: RunSettings, port: int) -> Sequence[str]:
    """Its settings are files of a model repository."""
    folder = peer.venv / "repository"
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "settings.json", _mlserver_settings(port))
    model = {
        "name": "locate",
        "implementation": f"{peer.module}.runtime.Locator",
        "max_batch_size": settings.max_batch,
        "max_batch_time": settings.window_ms / 1000,
    }
    _write(folder / "model-settings.json", model)
    return (peer.program("mlserver"), "start", str(folder))


def _mlserver_settings(port: int) -> dict[str, object]:
    return {
        "debug": False,
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": _port("mlserver-grpc"),
        "metrics_endpoint": None,
        "parallel_workers": 0,
        "gzip_enabled": False,
    }


def _write(path: Path, document: Mapping[str, object]) -> None:
    path.write_text(json.dumps(document, indent=1))


def _ray_env(_peer: Peer, _settings: RunSettings, _port: int) -> Mapping[str, str]:
    # Its token would be written to the user's home; everything listens on loopback only.
    return {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}


def _triton_env(peer: Peer, _settings: RunSettings, _port: int) -> Mapping[str, str]:
    """Triton's stub is linked against libpython, which an interpreter of one's own does not install system-wide."""
    return {"LD_LIBRARY_PATH": libpython_directory(), "PYTRITON_HOME": str(peer.venv / "home")}


def libpython_directory() -> str:
    """Where the interpreter's shared library lies."""
    return str(sysconfig.get_config_var("LIBDIR"))


SERVING_PEERS: Final[Sequence[Peer]] = (
    Peer(
        name="mosec",
        kind="serving",
        start=_server(_mosec, "/"),
        settings={
            "max_batch_size, max_wait_time": "the batch size and the window, on the one worker",
            "body": "raw bytes both ways; deserialize and serialize pass them on",
            "capacity": "1,024 requests, its default: more than the bridge has in flight",
            **COMMON,
        },
    ),
    Peer(
        name="litserve",
        kind="serving",
        start=_server(_module, "/health"),
        settings={
            "max_batch_size, batch_timeout": "the batch size and the window",
            "fast_queue": "True: its ZeroMQ transport, which its own help recommends for throughput",
            "num_api_servers, workers_per_device": "1 and 1: two cores",
            "body": "raw bytes both ways by a FastAPI dependency; its JSON path would cost base64",
            "access log": "off",
            **COMMON,
        },
    ),
    Peer(
        name="bentoml",
        kind="serving",
        start=_server(_bentoml, "/readyz", _bentoml_env),
        settings={
            "max_batch_size": "the batch size",
            "max_latency_ms": "60,000: its dispatcher learns its own window from the traffic, and refuses requests "
            "that it expects to be later than this",
            "concurrency": "as many as the bridge has in flight",
            "body": "base64 in JSON: a batchable API takes a list, and the server takes no pickles",
            "metrics, access log, tracking": "off",
            **COMMON,
        },
    ),
    Peer(
        name="mlserver",
        kind="serving",
        start=_server(_mlserver, "/v2/health/ready"),
        settings={
            "max_batch_size, max_batch_time": "the batch size and the window",
            "parallel_workers": "0: the model runs in a thread of the server, so bodies cross no process border",
            "body": "the Open Inference Protocol's BYTES tensor, base64 in JSON: its REST side has no binary form",
            "gzip, access log, metrics": "off",
            **COMMON,
        },
    ),
    Peer(
        name="ray_serve",
        kind="serving",
        start=_server(_module, "/-/healthz", _ray_env),
        settings={
            "max_batch_size, batch_wait_timeout_s": "the batch size and the window",
            "max_ongoing_requests": "as many as the bridge has in flight; the default of 5 could not fill a batch",
            "num_replicas, num_cpus": "1 and 1",
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1, its own switch for throughput",
            "RAY_SERVE_ENABLE_HA_PROXY": "not set: it listens on every interface, and one replica needs no balancer",
            "dashboard, access log, usage statistics": "off",
            "body": "raw bytes both ways",
            **COMMON,
        },
    ),
    Peer(
        name="pytriton",
        kind="serving",
        start=_server(_module, "/v2/models/locate/ready", _triton_env),
        settings={
            "max_batch_size, max_queue_delay_microseconds": "the batch size and the window, in Triton's own batcher",
            "body": "the Open Inference Protocol's binary extension, UINT8 tensors: nothing is encoded; "
            "the head has a round length, because only equal shapes become one batch",
            "http_thread_count": "2, as there are cores",
            "numpy": "1.26, the newest that its Triton reads tensors with",
            "gRPC, metrics": "off",
            **COMMON,
        },
    ),
)
