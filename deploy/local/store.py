"""`redis()`: a Redis that answers, from wherever this machine can get one."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import redis as redis_client

from deploy.local import containers
from deploy.local.errors import LocalStackError, MissingProgram, NotControllable
from deploy.local.ports import PortLease
from deploy.local.process import OwnedProcess
from deploy.local.server import NoControls, Server
from deploy.local.source import Source

URL_VARIABLE = "HEIMDALL_TEST_REDIS_URL"
IMAGE = "redis:7.4-alpine"
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
PROBE_TIMEOUT_S = 2.0

DATABASES = 512
"""Enough that each test of a run can have a number of its own; an empty database costs next to nothing."""

SETTINGS = {"save": "", "appendonly": "no", "maxmemory-policy": "noeviction", "databases": str(DATABASES)}


class RedisServer(Server):
    """A Redis server. `url` names database 0; `databases` says how many there are."""

    @property
    def databases(self) -> int:
        """How many numbered databases it has."""
        with redis_client.Redis.from_url(self.url) as client:
            return int(client.config_get("databases")["databases"])


def redis(config: Mapping[str, str] | None = None) -> AbstractContextManager[RedisServer]:
    """Give a Redis that answers; what was started here is stopped and its data removed when the block ends.

    Args:
        config: Directives on top of `SETTINGS` (nothing persisted, nothing evicted), e.g. `{"appendonly": "yes"}` to
            keep data over a restart or `{"maxmemory": "64mb"}`. A server given by URL keeps its own configuration.

    Raises:
        MissingProgram: No way to a server works here.
        StartFailed: It was started and did not answer.
    """
    settings = {**SETTINGS, **(config or {})}
    source = Source(
        name="Redis",
        variable=URL_VARIABLE,
        package="redis-server",
        installed=lambda: shutil.which("redis-server") is not None,
        external=_external,
        private=partial(_private, settings),
        container=partial(_container, settings),
    )
    return source.open()


@contextmanager
def _external(url: str) -> Iterator[RedisServer]:
    if not answers(url):
        where = urlsplit(url)
        raise LocalStackError(
            f"{URL_VARIABLE}: no Redis answers at {where.hostname}:{where.port or 6379}; start it or unset the variable"
        )
    yield RedisServer(url, NoControls("Redis", URL_VARIABLE))


@contextmanager
def _private(settings: Mapping[str, str]) -> Iterator[RedisServer]:
    with RedisProcess(settings) as process:
        process.start()
        yield RedisServer(process.url, process)


@contextmanager
def _container(settings: Mapping[str, str]) -> Iterator[RedisServer]:
    lease = PortLease.take()
    url = f"redis://127.0.0.1:{lease.port}/0"
    command = ["redis-server", *arguments(settings)]
    try:
        with containers.running(IMAGE, {6379: lease.port}, partial(answers, url), command) as controls:
            yield RedisServer(url, controls)
    finally:
        lease.release()


class RedisProcess:
    """One private redis-server; the `Controls` of a `RedisServer`."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="heimdall-redis-"))
        self._lease = PortLease.take()
        self.url = f"redis://127.0.0.1:{self._lease.port}/0"
        own = {"bind": "127.0.0.1", "port": str(self._lease.port), "dir": str(self._home)}
        command = ["redis-server", *arguments({**settings, **own})]
        self._process = OwnedProcess("Redis", command, {"PATH": _search_path()}, self._home / "redis.log")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stop(STOP_TIMEOUT_S)
        self._lease.release()
        shutil.rmtree(self._home, ignore_errors=True)

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._process.pid

    def start(self) -> None:
        """Start it; returns when it answers a PING (after loading its append-only file, if any)."""
        self._process.start()
        self._process.wait_ready(partial(answers, self.url), START_TIMEOUT_S, "an answer to PING")

    def stop(self) -> None:
        """SIGTERM, an orderly shutdown."""
        self._process.stop(STOP_TIMEOUT_S)

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()

    def pause(self) -> None:
        """SIGSTOP."""
        self._process.pause()

    def resume(self) -> None:
        """SIGCONT."""
        self._process.resume()

    def execute(self, argv: Sequence[str]) -> str:
        """Refuse: a Redis is configured through its own connection."""
        raise NotControllable(f"{argv[0]}: Redis takes CONFIG SET and the like through its URL; no tool runs beside it")


def arguments(settings: Mapping[str, str]) -> list[str]:
    """Spell directives as redis-server's command line."""
    return [word for key, value in settings.items() for word in (f"--{key}", value)]


def answers(url: str) -> bool:
    """Whether a Redis answers PING there."""
    try:
        with redis_client.Redis.from_url(
            url, socket_timeout=PROBE_TIMEOUT_S, socket_connect_timeout=PROBE_TIMEOUT_S
        ) as client:
            return bool(client.ping())
    except (redis_client.RedisError, OSError):
        return False


def _search_path() -> str:
    found = shutil.which("redis-server")
    if found is None:
        raise MissingProgram("redis-server was not found on PATH; install the package redis-server")
    return f"{Path(found).parent}:/usr/bin:/bin"
