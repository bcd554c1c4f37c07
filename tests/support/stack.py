"""Fixtures on a real RabbitMQ and Redis: one server of each per run, a vhost and a database per test.

`pytest_plugins = ["tests.support.stack"]` in a conftest makes them known. A test that stops, pauses or configures a
server given by URL is skipped with that reason; one that must not disturb its neighbours opens `rabbitmq()` or
`redis()` for itself.
"""

import base64
import http.client
import itertools
import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest
import redis as redis_client

from deploy.local import Broker, NotControllable, RedisServer, rabbitmq, redis

EVERYTHING = {"configure": ".*", "write": ".*", "read": ".*"}
ERRORS_FROM = 400

_database_numbers = itertools.count()


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """One broker with its HTTP API for the whole run."""
    with rabbitmq(management=True) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One Redis for the whole run."""
    with redis() as server:
        yield server


@contextmanager
def fresh_vhost(broker: Broker) -> Iterator[str]:
    """URL of a fresh vhost in which the broker's user may do everything; deleted afterwards."""
    name = f"test-{uuid4().hex[:12]}"
    user = urlsplit(broker.url).username or "guest"
    management(broker, "PUT", f"/vhosts/{name}")
    management(broker, "PUT", f"/permissions/{name}/{user}", EVERYTHING)
    yield urlunsplit(urlsplit(broker.url)._replace(path=f"/{name}"))
    management(broker, "DELETE", f"/vhosts/{name}")


@contextmanager
def fresh_database(redis_server: RedisServer) -> Iterator[str]:
    """URL of a Redis database of one's own, empty before and after."""
    number = next(_database_numbers) % redis_server.databases
    url = urlunsplit(urlsplit(redis_server.url)._replace(path=f"/{number}"))
    _flush(url)
    yield url
    _flush(url)


@pytest.fixture
def amqp_url(broker: Broker) -> Iterator[str]:
    """The broker's URL with a vhost of the test's own."""
    with fresh_vhost(broker) as url:
        yield url


@pytest.fixture
def redis_url(redis_server: RedisServer) -> Iterator[str]:
    """The server's URL with a database of the test's own."""
    with fresh_database(redis_server) as url:
        yield url


@pytest.fixture
def vhost(amqp_url: str) -> str:
    """The name of the test's own vhost."""
    return urlsplit(amqp_url).path.removeprefix("/")


def management(broker: Broker, method: str, path: str, body: object = None) -> Any:
    """Call the broker's HTTP API and return the decoded answer, None where it is empty.

    Args:
        broker: A broker with management.
        method: GET, PUT, POST or DELETE.
        path: What follows `/api`, percent-encoded: `/queues/my-vhost/heimdall.inference`.
        body: Sent as JSON unless None.

    Raises:
        RuntimeError: The API does not answer, or refuses.
    """
    where = urlsplit(broker.management_url)
    login = base64.b64encode(f"{where.username}:{where.password}".encode()).decode()
    headers = {"authorization": f"Basic {login}", "content-type": "application/json"}
    connection = http.client.HTTPConnection(where.hostname or "localhost", where.port, timeout=30)
    try:
        connection.request(method, f"/api{path}", json.dumps({} if body is None else body), headers)
        answer = connection.getresponse()
        text = answer.read()
    except OSError as error:
        raise RuntimeError(f"no management API at {where.hostname}:{where.port} ({error}); tests need one") from error
    finally:
        connection.close()
    if answer.status >= ERRORS_FROM:
        raise RuntimeError(f"{method} /api{path}: {answer.status} {text.decode(errors='replace')}")
    return json.loads(text) if text else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, Any, Any]:
    """Skip what needs control over a server that is not ours."""
    return (yield from _skip_not_controllable())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, Any, Any]:
    """Skip what needs control over a server that is not ours."""
    return (yield from _skip_not_controllable())


def _skip_not_controllable() -> Generator[None, Any, Any]:
    try:
        return (yield)
    except NotControllable as reason:
        pytest.skip(str(reason))


def _flush(url: str) -> None:
    with redis_client.Redis.from_url(url) as client:
        client.flushdb()
