"""TLS to RabbitMQ and Redis, with certificates made here: what works, and what is refused before a login is sent."""

import asyncio
import http.client
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aio_pika
import pytest
import redis as redis_client
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue

from client import BrokerUnreachable, HeimdallClient
from deploy.local import ServiceProcess
from tests.support.models import metadata, tone
from tests.support.secured import HOST, Secured
from tests.support.station import PATIENCE_S, Station, station
from worker.commands.fleet import open_fleet

ATTEMPTS = 3
"""Refusals that a worker must have logged before it counts as one that never becomes ready."""

PROBLEMS = {"Redis does not take writes", "no connection to RabbitMQ"}
CASES = ("wrong CA", "wrong host name", "plaintext server", "plaintext client")
SAID = {
    ("RabbitMQ", "wrong CA"): "self-signed certificate in certificate chain",
    ("RabbitMQ", "wrong host name"): "certificate is not valid for '127.0.0.1'",
    ("RabbitMQ", "plaintext server"): "[SSL: WRONG_VERSION_NUMBER]",
    ("RabbitMQ", "plaintext client"): "Connection reset by peer",
    ("Redis", "wrong CA"): "no authority that is trusted signed its certificate",
    ("Redis", "wrong host name"): "its certificate names another host",
    ("Redis", "plaintext server"): "does this port speak TLS?",
    ("Redis", "plaintext client"): "does this port want TLS?",
}


def urls(secured: Secured, case: str) -> tuple[str, str]:
    """URLs of the broker and of Redis for one way to get it wrong."""
    match case:
        case "wrong CA":
            return secured.amqps("worker", ca=secured.other_ca), secured.rediss("worker", ca=secured.other_ca)
        case "wrong host name":
            return secured.amqps("worker", host="127.0.0.1"), secured.rediss("worker", host="127.0.0.1")
        case "plaintext server":
            return secured.amqps("worker", port=secured.amqp_port), secured.rediss("worker", port=secured.redis_port)
        case "plaintext client":
            amqp = secured.amqp("worker").replace(f":{secured.amqp_port}/", f":{secured.amqps_port}/")
            return amqp, secured.redis("worker").replace(f":{secured.redis_port}/", f":{secured.rediss_port}/")
    raise AssertionError(case)


@pytest.fixture(scope="module")
def tracking_uri(registry_file: Path) -> str:
    """A registry that serves, so that nothing else keeps a worker from being ready."""
    return f"sqlite:///{registry_file}"


@pytest.fixture(scope="module")
def refused(secured: Secured, tracking_uri: str) -> Iterator[dict[str, ServiceProcess]]:
    """One worker for each way, all started at once, with the log level that operators have."""
    with ExitStack() as stack:
        workers = {}
        for case in CASES:
            amqp_url, redis_url = urls(secured, case)
            world = stack.enter_context(station(amqp_url, redis_url, tracking_uri))
            workers[case] = world.unready_worker(
                HEIMDALL_LOG_LEVEL="INFO", HEIMDALL_REDIS_TIMEOUT_S="2", HEIMDALL_DECLARE_TOPOLOGY="false"
            )
            stack.callback(workers[case].close)
            workers[case].start()
        yield workers


@pytest.fixture(scope="module")
def secure_station(secured: Secured, tracking_uri: str) -> Iterator[Station]:
    """A ready worker on TLS, under the permissions of `worker`."""
    with station(secured.amqps("worker"), secured.rediss("worker"), tracking_uri) as it:
        it.worker(HEIMDALL_DECLARE_TOPOLOGY="false", HEIMDALL_CONTROL_USERS="operator")
        yield it


async def test_a_job_goes_through_on_tls_with_least_privilege(secured: Secured, secure_station: Station) -> None:
    """`client` publishes and is answered, and finds the result in Redis, with no more rights than the table."""
    connection = await aio_pika.connect(secured.amqps("client"))
    async with connection:
        channel = await connection.channel(on_return_raises=True)
        replies = await channel.declare_queue("heimdall.reply.client.test", exclusive=True)
        exchange = await channel.get_exchange("heimdall.iq", ensure=False)
        message = aio_pika.Message(
            tone(),
            message_id="secure-1",
            content_type="application/octet-stream",
            headers={"sigmf": json.dumps(metadata())},
            reply_to=replies.name,
            user_id="client",
        )
        await exchange.publish(message, "localize", mandatory=True, timeout=PATIENCE_S)
        reply = (await _first(replies)).body
    assert json.loads(reply)["job_id"] == "secure-1"
    with redis_client.Redis.from_url(secured.rediss("client")) as store:
        assert json.loads(store.get("heimdall:result:secure-1"))["position"] == json.loads(reply)["position"]


async def test_a_broken_job_reaches_the_dead_letters_under_the_worker_s_permissions(
    secured: Secured, secure_station: Station
) -> None:
    """Dead letter and event are published by `worker`, read by `operator`."""
    async with await aio_pika.connect(secured.amqps("acquisition")) as connection:
        channel = await connection.channel(on_return_raises=True)
        exchange = await channel.get_exchange("heimdall.iq", ensure=False)
        message = aio_pika.Message(b"odd", message_id="secure-2", content_type="text/plain")
        await exchange.publish(message, "localize", mandatory=True, timeout=PATIENCE_S)
    async with await aio_pika.connect(secured.amqps("operator")) as connection:
        channel = await connection.channel()
        letter = await _first(await channel.get_queue("heimdall.dead"))
    assert letter.headers["heimdall-code"] == "malformed_envelope"


async def test_an_operator_commands_workers_on_tls(secured: Secured, secure_station: Station) -> None:
    """Worker and operator meet on the control exchange under their own permissions."""
    async with open_fleet(secured.amqps("operator")) as fleet:
        answers = await fleet.roll_call()
    assert [answer.ok for answer in answers.values()] == [True]


@pytest.mark.parametrize(("server", "case"), SAID)
def test_a_worker_that_cannot_trust_a_server_says_why(
    refused: dict[str, ServiceProcess], case: str, server: str
) -> None:
    """The log names the server and what is wrong in words; at the level that operators have."""
    event = {"RabbitMQ": "broker.unavailable", "Redis": "store.down"}[server]
    errors = _wait(lambda: [entry["error"] for entry in _log(refused[case]) if entry["event"] == event])
    assert any(SAID[server, case] in error for error in errors), errors


@pytest.mark.parametrize("case", CASES)
def test_a_worker_that_cannot_trust_a_server_is_never_ready(refused: dict[str, ServiceProcess], case: str) -> None:
    """After several attempts it is alive, has never been ready, and says that both servers are missing."""
    worker = refused[case]
    _wait(lambda: [e for e in _log(worker) if e["event"] == "broker.unavailable" and e["attempt"] >= ATTEMPTS])
    _wait(lambda: [e for e in _log(worker) if e["event"] == "model.serving"])
    assert _get(worker, "/health/live")[0] == 200
    assert _get(worker, "/health/startup")[0] == 503
    status, body = _get(worker, "/health/ready")
    assert (status, set(body["problems"])) == (503, PROBLEMS)
    assert not [e for e in _log(worker) if e["event"] in {"broker.connected", "store.up", "consumer.started"}]


@pytest.mark.parametrize("case", CASES)
def test_no_password_is_logged_when_a_server_is_refused(refused: dict[str, ServiceProcess], case: str) -> None:
    """The URL with its password never appears; its user and host may."""
    assert "worker:worker" not in refused[case].log_text()


@pytest.mark.parametrize(
    ("case", "said"),
    [("wrong CA", "certificate verify failed"), ("wrong host name", "not valid for"), ("plaintext server", "SSL")],
)
async def test_a_client_refuses_what_it_cannot_trust(secured: Secured, case: str, said: str) -> None:
    """`heimdall locate` and the Python client end with the reason, and without the password."""
    url = urls(secured, case)[0].replace("worker:worker", "client:client")
    with pytest.raises(BrokerUnreachable, match=said) as caught:
        async with asyncio.timeout(PATIENCE_S), HeimdallClient(url, connect_timeout=0.5):
            pass
    assert "client:client" not in str(caught.value)
    assert HOST in str(caught.value) or "127.0.0.1" in str(caught.value)


async def _first(queue: AbstractQueue) -> AbstractIncomingMessage:
    """The first message of a queue, once it comes."""
    async with asyncio.timeout(PATIENCE_S):
        while (message := await queue.get(fail=False, no_ack=True)) is None:
            await asyncio.sleep(0.05)
        return message


def _wait(found: Callable[[], list[Any]]) -> list[Any]:
    """What is found, once it is not empty."""
    deadline = time.monotonic() + PATIENCE_S
    while not (answer := found()):
        assert time.monotonic() < deadline, "it did not come in time"
        time.sleep(0.1)
    return answer


def _log(worker: ServiceProcess) -> list[dict[str, Any]]:
    return [json.loads(line) for line in worker.log_text().splitlines() if line.startswith("{") and line.endswith("}")]


def _get(worker: ServiceProcess, path: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(worker.http_url).port or 0, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()
