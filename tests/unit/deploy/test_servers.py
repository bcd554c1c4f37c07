import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import aio_pika
import pytest
import redis as redis_client

from deploy.local import Broker, LocalStackError, RedisServer, Stack, rabbit_node, rabbitmq, redis
from tests.support.stack import management

RABBITMQ = Path(__file__).parents[3] / "deploy" / "rabbitmq"

pytest_plugins = ["tests.support.stack"]


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """Open a Redis that a test may kill; skip where Redis comes by URL."""
    with redis({"appendonly": "yes", "appendfsync": "always", "maxmemory": "64mb"}) as server:
        _ = server.pid
        yield server


@pytest.fixture
def installed(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `rabbitmq()` start a private node, as only such a one takes our configuration; skip where it cannot."""
    monkeypatch.delenv("HEIMDALL_TEST_AMQP_URL", raising=False)
    if rabbit_node.scripts() is None:
        pytest.skip("RabbitMQ is not installed here")


async def test_a_test_gets_a_vhost_of_its_own(broker: Broker, amqp_url: str, vhost: str) -> None:
    """What one test declares is not there for the next."""
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        await channel.declare_queue("jobs", durable=True, arguments={"x-queue-type": "quorum"})
    assert [queue["name"] for queue in management(broker, "GET", f"/queues/{vhost}")] == ["jobs"]


def test_a_test_gets_an_empty_database_of_its_own(redis_url: str, redis_server: RedisServer) -> None:
    """A key of one test is invisible to the others."""
    with redis_client.Redis.from_url(redis_url) as mine:
        assert mine.dbsize() == 0
        mine.set("key", 1)
    other = (int(urlsplit(redis_url).path[1:]) + 1) % redis_server.databases
    with redis_client.Redis.from_url(urlunsplit(urlsplit(redis_url)._replace(path=f"/{other}"))) as neighbour:
        assert neighbour.get("key") is None


def test_a_killed_redis_comes_back_with_port_and_data(own_redis: RedisServer) -> None:
    """Options reach the server; start after kill serves the same URL from the same directory."""
    with redis_client.Redis.from_url(own_redis.url) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("maxmemory") == {"maxmemory": str(64 * 1024 * 1024)}
        client.set("kept", "yes")
        own_redis.kill()
        with pytest.raises(redis_client.ConnectionError):
            client.get("kept")
        own_redis.start()
        assert client.get("kept") == b"yes"


def test_a_paused_redis_is_silent_not_gone(own_redis: RedisServer) -> None:
    """Pause looks like a hung server: the connection stands, the answer never comes."""
    with redis_client.Redis.from_url(own_redis.url, socket_timeout=0.3, retry=None) as client:
        client.ping()
        own_redis.pause()
        with pytest.raises(redis_client.TimeoutError):
            client.ping()
        own_redis.resume()
        assert client.ping()


async def test_the_deployed_definitions_make_the_topology(installed: None) -> None:
    """definitions.json makes the exchanges, queues and bindings on boot."""
    definitions = json.loads((RABBITMQ / "definitions.json").read_text())
    with rabbitmq(config={"load_definitions": str(RABBITMQ / "definitions.json")}) as broker:
        declared = broker.ctl("list_queues", "name", "arguments", "--formatter", "json")
        assert sorted(row["name"] for row in json.loads(declared)) == sorted(q["name"] for q in definitions["queues"])
        await _check_routes(broker.url.replace("guest:guest@", "heimdall:heimdall@"))


async def _check_routes(url: str) -> None:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel(on_return_raises=True)
        exchange = await channel.get_exchange("heimdall.iq")
        await exchange.publish(aio_pika.Message(b"job"), "localize")
        await exchange.publish(aio_pika.Message(b"lost"), "no-such-key")
        for queue, body in (("heimdall.inference", b"job"), ("heimdall.unrouted", b"lost")):
            message = await (await channel.get_queue(queue)).get(timeout=10)
            assert message.body == body


def test_a_failing_rabbitmqctl_says_what_it_said(broker: Broker) -> None:
    """The tool's own message reaches the reader."""
    _ = broker.pid
    with pytest.raises(LocalStackError, match="no_such_user"):
        broker.ctl("delete_user", "no_such_user")


def test_a_broker_that_cannot_boot_shows_its_log(installed: None) -> None:
    """A wrong line of configuration fails the start with RabbitMQ's own words, and leaves nothing running."""
    with (
        pytest.raises(LocalStackError, match=r"(?s)ended with code \d+.*no_such_key"),
        rabbitmq(config={"no_such_key": "1"}),
    ):
        pass


def test_a_stack_comes_back_when_killed_and_is_gone_after_its_block() -> None:
    """A killed broker starts on its port; processes and directories are gone when the block is left."""
    with Stack.running() as stack:
        first = stack.broker.pid
        stack.broker.kill()
        stack.broker.start()
        pids = [first, stack.broker.pid, stack.store.pid]
        assert len(set(pids)) == 3
        directory = stack.directory
        assert stack.tracking_uri == f"sqlite:///{directory}/mlflow.db"
        assert stack.worker_env()["HEIMDALL_AMQP_URL"] == stack.broker.url
    assert not directory.exists()
    for pid in pids:
        assert not Path(f"/proc/{pid}").exists()
