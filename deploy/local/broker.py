"""`rabbitmq()`: a broker that answers, from wherever this machine can get one."""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from urllib.parse import urlsplit

from deploy.local import containers, rabbit_node
from deploy.local.errors import LocalStackError, NotControllable
from deploy.local.ports import PortLease
from deploy.local.server import Controls, NoControls, Server
from deploy.local.source import Source

URL_VARIABLE = "HEIMDALL_TEST_AMQP_URL"
MANAGEMENT_VARIABLE = "HEIMDALL_TEST_MANAGEMENT_URL"
"""Where the HTTP API of a broker given by URL is; default: the same host and user, port 15672."""

IMAGE = "rabbitmq:4.1-management-alpine"
AMQP_HEADER = b"AMQP\x00\x00\x09\x01"
PROBE_TIMEOUT_S = 2.0
ALONE = {"raft.wal_max_size_bytes": "64000000"}
"""Of a node outside a cluster; as in deploy/rabbitmq/rabbitmq.conf, so that what is measured is what is deployed."""


class Broker(Server):
    """A RabbitMQ node. `url` ends in `/`, the default vhost; user and password are in it."""

    def __init__(self, url: str, controls: Controls, management_url: str | None) -> None:
        super().__init__(url, controls)
        self._management_url = management_url

    @property
    def management_url(self) -> str:
        """The HTTP API with user and password in it, without `/api`.

        Raises:
            NotControllable: The broker was started without management.
        """
        if self._management_url is None:
            raise NotControllable("this broker has no management API; ask for it: rabbitmq(management=True)")
        return self._management_url

    def ctl(self, *arguments: str) -> str:
        """Run `rabbitmqctl` against this node and return its output; about half a second a call.

        Raises:
            NotControllable: The broker was given by URL.
            LocalStackError: rabbitmqctl failed; the message carries what it said.
        """
        return self._controls.execute(["rabbitmqctl", "-q", *arguments])


def rabbitmq(*, management: bool = False, config: Mapping[str, str] | None = None) -> AbstractContextManager[Broker]:
    """Give a broker that answers; what was started here is stopped and its data removed when the block ends.

    Args:
        management: Enable the HTTP API (about one second more to start).
        config: Further lines of rabbitmq.conf for a private node, e.g. `{"vm_memory_high_watermark.absolute": "80MB"}`.
            A broker given by URL or run as a container keeps its own configuration.

    Raises:
        MissingProgram: No way to a broker works here.
        StartFailed: It was started and did not answer.
    """
    source = Source(
        name="RabbitMQ",
        variable=URL_VARIABLE,
        package="rabbitmq-server",
        installed=lambda: rabbit_node.scripts() is not None,
        external=_external,
        private=partial(_private, management=management, config=config or {}),
        container=_container,
    )
    return source.open()


@contextmanager
def _external(url: str) -> Iterator[Broker]:
    parts = urlsplit(url)
    host, port = parts.hostname or "localhost", parts.port or 5672
    if parts.scheme == "amqp" and not answers(host, port):
        raise LocalStackError(f"{URL_VARIABLE}: no broker answers at {host}:{port}; start it, or unset the variable")
    login = f"{parts.username or 'guest'}:{parts.password or 'guest'}"
    management = os.environ.get(MANAGEMENT_VARIABLE) or f"http://{login}@{host}:15672"
    yield Broker(url, NoControls("RabbitMQ", URL_VARIABLE), management.rstrip("/"))


@contextmanager
def _private(*, management: bool, config: Mapping[str, str]) -> Iterator[Broker]:
    node = rabbit_node.RabbitNode(management=management, config={**ALONE, **config}, answers=answers)
    try:
        node.start()
        yield Broker(f"amqp://guest:guest@127.0.0.1:{node.port}/", node, node.management_url)
    finally:
        node.close()


@contextmanager
def _container() -> Iterator[Broker]:
    amqp, http = PortLease.take(), PortLease.take()
    ready = partial(answers, "127.0.0.1", amqp.port)
    try:
        with containers.running(IMAGE, {5672: amqp.port, 15672: http.port}, ready) as controls:
            management_url = f"http://guest:guest@127.0.0.1:{http.port}"
            yield Broker(f"amqp://guest:guest@127.0.0.1:{amqp.port}/", controls, management_url)
    finally:
        amqp.release()
        http.release()


def answers(host: str, port: int) -> bool:
    """Whether a broker opens the AMQP 0-9-1 handshake there; a listening socket alone may be one still booting."""
    with suppress(OSError), socket.create_connection((host, port), PROBE_TIMEOUT_S) as connection:
        connection.sendall(AMQP_HEADER)
        return connection.recv(1) == b"\x01"  # A method frame: Connection.Start.
    return False
