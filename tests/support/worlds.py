"""Fixtures: a worker per test module on real servers, and worlds of a test's own for what breaks something."""

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from deploy.local import Broker, RedisServer
from tests.support.models import write_model
from tests.support.stack import fresh_database, fresh_vhost
from tests.support.station import Publisher, Station, publisher, station
from worker.serving.registry import Registry


@pytest.fixture(scope="session")
def registry_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry whose version 1 serves; made once, because making its tables takes seconds."""
    directory = tmp_path_factory.mktemp("registry")
    Registry(f"sqlite:///{directory}/mlflow.db", "heimdall").register(write_model(directory / "model.onnx"))
    return directory / "mlflow.db"


@pytest.fixture(scope="module")
def shared_station(
    broker: Broker, redis_server: RedisServer, registry_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Station]:
    """A world with one ready worker, shared by the tests of a module."""
    uri = copied_registry(registry_file, tmp_path_factory.mktemp("station"))
    with (
        fresh_vhost(broker) as amqp_url,
        fresh_database(redis_server) as redis_url,
        station(amqp_url, redis_url, uri) as it,
    ):
        it.worker()
        yield it


@pytest.fixture
async def jobs(shared_station: Station) -> AsyncIterator[Publisher]:
    """A publisher to the shared worker."""
    async with publisher(shared_station.amqp_url) as it:
        yield it


@pytest.fixture
def own_station(amqp_url: str, redis_url: str, registry_file: Path, tmp_path: Path) -> Iterator[Station]:
    """A world of the test's own, with a model and no worker yet."""
    with station(amqp_url, redis_url, copied_registry(registry_file, tmp_path)) as it:
        yield it


def copied_registry(registry_file: Path, directory: Path) -> str:
    """The tracking URI of a copy that a test may change."""
    shutil.copy(registry_file, directory)
    return f"sqlite:///{directory}/{registry_file.name}"
