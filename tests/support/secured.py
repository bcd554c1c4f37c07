"""A broker and a Redis as deploy/ configures them: least-privilege users, and TLS beside the plain ports.

What starts here is read from the deployed files themselves; only paths and ports are replaced.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from deploy.local import Broker, RedisServer, broker, containers, rabbit_node, rabbitmq, redis, store
from deploy.local.ports import PortLease

DEPLOY = Path(__file__).parents[2] / "deploy"
DEFINITIONS = DEPLOY / "rabbitmq/definitions.json"
HOST = "localhost"
"""The one name in the servers' certificate; 127.0.0.1 reaches the same servers and is not in it."""


@dataclass(frozen=True)
class Secured:
    """Both servers, and what a client needs to reach them.

    Attributes:
        broker: of which `url` is the plain one, of a user that does not exist here.
        store: of which `url` is the plain one, without a login.
        ca: certificate of the authority that signed the servers' certificate.
        other_ca: of one that did not.
    """

    broker: Broker
    store: RedisServer
    amqp_port: int
    amqps_port: int
    redis_port: int
    rediss_port: int
    ca: Path
    other_ca: Path

    def amqp(self, user: str) -> str:
        """Plain URL; on the laptop's definitions the password is the name."""
        return f"amqp://{user}:{user}@127.0.0.1:{self.amqp_port}/"

    def amqps(self, user: str, *, host: str = HOST, port: int | None = None, ca: Path | None = None) -> str:
        """TLS URL."""
        return f"amqps://{user}:{user}@{host}:{port or self.amqps_port}/?cafile={ca or self.ca}"

    def redis(self, user: str) -> str:
        """Plain URL."""
        return f"redis://{user}:{user}@127.0.0.1:{self.redis_port}/0"

    def rediss(self, user: str, *, host: str = HOST, port: int | None = None, ca: Path | None = None) -> str:
        """TLS URL."""
        return f"rediss://{user}:{user}@{host}:{port or self.rediss_port}/0?ssl_ca_certs={ca or self.ca}"


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """Both servers, started once; the users of deploy/ are loaded at their start."""
    if not _may_configure():
        pytest.skip("needs servers with a configuration of its own: neither given by URL nor run as containers")
    files = _certificates(tmp_path_factory.mktemp("tls"))
    with _port() as amqps, _port() as rediss, _redis(files, rediss) as redis_, _rabbitmq(files, amqps) as rabbit:
        ports = (_port_of(rabbit.url), amqps, _port_of(redis_.url), rediss)
        yield Secured(rabbit, redis_, *ports, files["ca.crt"], files["other.crt"])


def settings_of(path: Path, separator: str | None = None) -> dict[str, str]:
    """Key and value of each line of a configuration file."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    pairs = [line.split(separator, 1) for line in lines if line and not line.startswith("#")]
    return {key.strip(): value.strip().strip('"') for key, value in pairs}


def _certificates(directory: Path) -> dict[str, Path]:
    authority, stranger = trustme.CA(), trustme.CA()
    certificate = authority.issue_cert(HOST)
    pems = {
        "ca.crt": authority.cert_pem,
        "other.crt": stranger.cert_pem,
        "tls.crt": certificate.cert_chain_pems[0],
        "tls.key": certificate.private_key_pem,
    }
    for name, pem in pems.items():
        pem.write_to_path(directory / name)
    return {name: directory / name for name in pems}


@contextmanager
def _port() -> Iterator[int]:
    lease = PortLease.take()
    try:
        yield lease.port
    finally:
        lease.release()


def _redis(files: dict[str, Path], port: int) -> AbstractContextManager[RedisServer]:
    settings = _with_certificates(settings_of(DEPLOY / "redis/tls.conf"), files)
    del settings["port"]  # The plain port stays, to see that it is no way around the login.
    return redis({**settings, "tls-port": str(port), "aclfile": str(DEPLOY / "redis/users.acl")})


def _rabbitmq(files: dict[str, Path], port: int) -> AbstractContextManager[Broker]:
    settings = settings_of(DEPLOY / "rabbitmq/rabbitmq.conf", "=") | settings_of(DEPLOY / "rabbitmq/tls.conf", "=")
    for listener in ("listeners.tcp", "listeners.ssl.default"):
        del settings[listener]
    own = {"listeners.ssl.1": f"127.0.0.1:{port}", "load_definitions": str(DEFINITIONS)}
    return rabbitmq(management=True, config=_with_certificates(settings, files) | own)


def _with_certificates(settings: dict[str, str], files: dict[str, Path]) -> dict[str, str]:
    """Each path of a certificate replaced by that of the test's own file of the same name."""
    return {key: str(files.get(Path(value).name, value)) for key, value in settings.items()}


def _may_configure() -> bool:
    given = os.environ.get(broker.URL_VARIABLE) or os.environ.get(store.URL_VARIABLE)
    installed = rabbit_node.scripts() is not None and shutil.which("redis-server") is not None
    return not given and (installed or not containers.engine_answers())


def _port_of(url: str) -> int:
    return int(url.rsplit(":", 1)[1].partition("/")[0])
