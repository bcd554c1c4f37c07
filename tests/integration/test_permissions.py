"""docs/permissions.md, row by row and user by user, on a real broker and a real Redis with the users of deploy/."""

import base64
import http.client
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pika
import pytest
import redis as redis_client
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker
from redis.exceptions import NoPermissionError

from tests.support.secured import Secured
from worker.commands.dead_stored import _TAKE_IF_SAME
from worker.store.outcomes import _SAVE

PAGE = (Path(__file__).parents[2] / "docs/permissions.md").read_text(encoding="utf-8")
ACCESS_REFUSED, PRECONDITION_FAILED = 403, 406
UNAUTHORIZED = 401
REFUSED = {ACCESS_REFUSED, PRECONDITION_FAILED}
IN_SCRIPT = ("The user executing the script can't run", "ACL failure in script")
"""How Redis 7.0 and later ones refuse a command inside a script."""
DIRECT_REPLY_TO = "amq.rabbitmq.reply-to"


class Refused(Exception):
    """The server says that this user may not."""


class Cell(NamedTuple):
    """Whether a user may do something."""

    action: str
    user: str
    may: bool

    def check(self, act: Callable[[], None]) -> None:
        """Run the action, which must succeed or must be refused."""
        if self.may:
            act()
        else:
            with pytest.raises(Refused):
                act()


def table(heading: str) -> list[Cell]:
    """The cells of the first table under a heading of the page."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    head, _, *rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in section.splitlines() if line[:1] == "|"
    ]
    users = [name.strip("` |") for name in head[1:]]
    return [
        Cell(row[0].strip("| ").replace("`", ""), user, {"yes": True, "no": False}[may.strip("| ")])
        for row in rows
        for user, may in zip(users, row[1:], strict=True)
    ]


AMQP_CELLS, REDIS_CELLS = table("RabbitMQ"), table("Redis")
Amqp = Callable[[BlockingChannel, str], object]


def publish(exchange: str, key: str) -> Amqp:
    """Publish and await the confirm."""

    def act(channel: BlockingChannel, user: str) -> None:
        channel.confirm_delivery()
        channel.basic_publish(exchange, key, b"{}", pika.BasicProperties(user_id=user))

    return act


def publish_as_another(channel: BlockingChannel, user: str) -> None:
    """State a user_id that is not one's own."""
    exchange = "heimdall.events" if user == "worker" else "heimdall.iq"
    channel.confirm_delivery()
    channel.basic_publish(exchange, "localization.complete", b"{}", pika.BasicProperties(user_id="heimdall"))


def take(queue: str) -> Amqp:
    """Take a message; the channel gives it back when it closes."""
    return lambda channel, _: channel.basic_get(queue)


def own_queue(channel: BlockingChannel, name: str = "") -> str:
    """Declare an exclusive queue and consume it."""
    queue = str(channel.queue_declare(name, exclusive=True).method.queue)
    channel.basic_consume(queue, lambda *_: None, auto_ack=True)
    return queue


def follow(exchange: str, key: str) -> Amqp:
    """Bind a queue of one's own to an exchange."""
    return lambda channel, _: channel.queue_bind(own_queue(channel), exchange, key)


ACTIONS: dict[str, Amqp] = {
    "publish to heimdall.iq": publish("heimdall.iq", "no-queue-takes-this"),
    "publish as another user": publish_as_another,
    "publish to heimdall.control": publish("heimdall.control", "worker.all"),
    "publish another key to heimdall.control": publish("heimdall.control", "broker.all"),
    "publish to heimdall.events": publish("heimdall.events", "localization.complete"),
    "publish another key to heimdall.events": publish("heimdall.events", "localization.forged"),
    "publish to heimdall.dead": publish("heimdall.dead", "no-queue-takes-this"),
    "publish to heimdall.unrouted": publish("heimdall.unrouted", ""),
    "publish to a queue by its name": publish("", "heimdall.unrouted"),
    "take from heimdall.inference": take("heimdall.inference"),
    "take from heimdall.dead": take("heimdall.dead"),
    "take from heimdall.unrouted": take("heimdall.unrouted"),
    "purge heimdall.inference": lambda channel, _: channel.queue_purge("heimdall.inference"),
    "delete heimdall.inference": lambda channel, _: channel.queue_delete("heimdall.inference"),
    "delete heimdall.dead": lambda channel, _: channel.queue_delete("heimdall.dead"),
    "delete the exchange heimdall.iq": lambda channel, _: channel.exchange_delete("heimdall.iq"),
    "declare a shared queue": lambda channel, _: channel.queue_declare("heimdall.another", durable=True),
    "declare an exchange": lambda channel, _: channel.exchange_declare("heimdall.another"),
    "declare and consume a queue that the broker names": lambda channel, _: own_queue(channel),
    "declare and consume heimdall.reply.client.x": lambda channel, _: own_queue(channel, "heimdall.reply.client.x"),
    "declare heimdall.reply.somebody.x": lambda channel, _: own_queue(channel, "heimdall.reply.somebody.x"),
    "hear replies by direct reply-to": lambda channel, _: channel.basic_consume(
        DIRECT_REPLY_TO, lambda *_: None, auto_ack=True
    ),
    "follow heimdall.events": follow("heimdall.events", "localization.*"),
    "hear heimdall.control": follow("heimdall.control", "worker.all"),
    "hear another key of heimdall.control": follow("heimdall.control", "#"),
    "copy jobs: bind a queue to heimdall.iq": follow("heimdall.iq", "localize"),
    "bind heimdall.inference to heimdall.events": lambda channel, _: channel.queue_bind(
        "heimdall.inference", "heimdall.events", "#"
    ),
}
HTTP_ACTIONS = {
    "read queue lengths over HTTP": ("GET", "/api/queues/%2F/heimdall.inference", None),
    "read the definitions over HTTP": ("GET", "/api/definitions", None),
    "make a user over HTTP": ("PUT", "/api/users/another", {"password": "x", "tags": "administrator"}),
}


@pytest.fixture(scope="module")
def logins(secured: Secured) -> Iterator[dict[str, pika.BlockingConnection]]:
    """One open connection per user of the table."""
    users = {user for _, user, _ in AMQP_CELLS}
    opened = {user: pika.BlockingConnection(pika.URLParameters(secured.amqp(user))) for user in users}
    yield opened
    for connection in opened.values():
        connection.close()


@contextmanager
def refusal() -> Iterator[None]:
    """Turn RabbitMQ's refusal into `Refused`; whatever else goes wrong stays what it is."""
    try:
        yield
    except ChannelClosedByBroker as error:
        if error.reply_code not in REFUSED:
            raise
        raise Refused(error.reply_text) from error


def ask(secured: Secured, user: str, method: str, path: str, body: object) -> int:
    """Ask the HTTP API and return the status; a refusal raises `Refused`."""
    where = urlsplit(secured.broker.management_url)
    login = base64.b64encode(f"{user}:{user}".encode()).decode()
    headers = {"authorization": f"Basic {login}", "content-type": "application/json"}
    connection = http.client.HTTPConnection(where.hostname or "localhost", where.port, timeout=30)
    try:
        connection.request(method, path, json.dumps(body), headers)
        answer = connection.getresponse()
        if answer.status in {UNAUTHORIZED, ACCESS_REFUSED}:
            raise Refused(answer.read().decode(errors="replace"))
        return answer.status
    finally:
        connection.close()


def name_of(cell: Cell) -> str:
    """Name of a cell's test."""
    return f"{cell.user} {'may' if cell.may else 'may not'} {cell.action}".replace(" ", "-")


@pytest.mark.parametrize("cell", AMQP_CELLS, ids=name_of)
def test_rabbitmq_lets_a_user_do_what_the_table_says(
    secured: Secured, logins: dict[str, pika.BlockingConnection], cell: Cell
) -> None:
    """Each cell of the table: the action succeeds, or the broker refuses it."""

    def act() -> None:
        if cell.action in HTTP_ACTIONS:
            assert ask(secured, cell.user, *HTTP_ACTIONS[cell.action]) == http.client.OK
            return
        channel = logins[cell.user].channel()
        with refusal():
            ACTIONS[cell.action](channel, cell.user)
            channel.close()

    cell.check(act)


def read_result(client: redis_client.Redis) -> object:
    """As a client looks one up."""
    return client.get("heimdall:result:a")


def count_suspect(client: redis_client.Redis) -> object:
    """As the worker does, in one transaction."""
    with client.pipeline(transaction=True) as pipeline:
        return pipeline.incr("heimdall:suspect:a").expire("heimdall:suspect:a", 10).execute()


def script(text: str, key: str, *arguments: object) -> Callable[[redis_client.Redis], object]:
    """Run a script on one key, and raise what it could not do."""

    def act(client: redis_client.Redis) -> None:
        answers = client.register_script(text)(keys=[key], args=arguments)
        failed = [a for a in answers if isinstance(a, Exception)] if isinstance(answers, list) else []
        if failed:
            raise failed[0]

    return act


REDIS_ACTIONS: dict[str, Callable[[redis_client.Redis], object]] = {
    "ping": lambda client: client.ping(),
    "read a result": read_result,
    "store a result": lambda client: client.set("heimdall:result:a", b"{}", nx=True, get=True, ex=10),
    "delete a result": lambda client: client.delete("heimdall:result:a"),
    "count a suspect": count_suspect,
    "forget a suspect": lambda client: client.delete("heimdall:suspect:a"),
    "read the cache": lambda client: client.mget(["heimdall:cache:f:a", "heimdall:cache:r:a"]),
    "write the cache": lambda client: client.set("heimdall:cache:r:a", b"x", ex=10),
    "probe with a write": lambda client: client.set("heimdall:probe:a", b"1", ex=10),
    "read the memory in use": lambda client: client.info("memory"),
    "read any other key": lambda client: client.get("session:somebody"),
    "write any other key": lambda client: client.set("session:somebody", b"x"),
    "list keys": lambda client: client.scan(),
    "empty the database": lambda client: client.flushdb(),
    "change the configuration": lambda client: client.config_set("maxmemory", "1gb"),
    "read the users": lambda client: client.acl_list(),
    "store results by the worker's script": script(_SAVE, "heimdall:result:a", 10, b"{}"),
    "take an error away by the script of a replay": script(_TAKE_IF_SAME, "heimdall:result:a", b"{}"),
    "run a script that reads another key": script("return redis.call('GET', KEYS[1])", "session:somebody"),
    "subscribe to a channel": lambda client: client.execute_command("SUBSCRIBE", "news"),
}


@pytest.mark.parametrize("cell", REDIS_CELLS, ids=name_of)
def test_redis_lets_a_user_do_what_the_table_says(secured: Secured, cell: Cell) -> None:
    """Each cell of the table: the action succeeds, or Redis refuses it."""
    with redis_client.Redis.from_url(secured.redis("heimdall")) as administrator:
        administrator.set("heimdall:result:a", b"{}", ex=60)
    url = secured.store.url if cell.user == "no login" else secured.redis(cell.user)

    def act() -> None:
        with redis_client.Redis.from_url(url) as client:
            try:
                REDIS_ACTIONS[cell.action](client)
            except redis_client.ResponseError as error:
                if not isinstance(error, NoPermissionError) and not any(said in str(error) for said in IN_SCRIPT):
                    raise
                raise Refused(str(error)) from error

    cell.check(act)


def test_every_action_of_the_code_is_a_row_of_the_page() -> None:
    """What the broker is asked is what the page tells, no more and no less."""
    assert {action for action, _, _ in AMQP_CELLS} == ACTIONS.keys() | HTTP_ACTIONS.keys()
    assert {action for action, _, _ in REDIS_CELLS} == REDIS_ACTIONS.keys()


def test_every_user_of_the_files_is_a_column_of_the_page() -> None:
    """Nobody but the administrator is left out."""
    deploy = Path(__file__).parents[2] / "deploy"
    definitions = json.loads((deploy / "rabbitmq/definitions.json").read_text(encoding="utf-8"))
    assert {user["name"] for user in definitions["users"]} - {"heimdall"} == {user for _, user, _ in AMQP_CELLS}
    named = set(re.findall(r"^user (\w+)", (deploy / "redis/users.acl").read_text(encoding="utf-8"), re.MULTILINE))
    assert named - {"heimdall", "default"} == {user for _, user, _ in REDIS_CELLS} - {"no login"}


@pytest.mark.parametrize("login", ["worker:wrong", "nobody:nobody", "guest:guest"])
def test_a_wrong_login_is_refused(secured: Secured, login: str) -> None:
    """A wrong password, an unknown user, and RabbitMQ's well-known guest."""
    with pytest.raises(pika.exceptions.ProbableAuthenticationError):
        pika.BlockingConnection(pika.URLParameters(secured.amqp("worker").replace("worker:worker", login)))
    with (
        redis_client.Redis.from_url(secured.redis("worker").replace("worker:worker", login)) as client,
        pytest.raises(redis_client.AuthenticationError),
    ):
        client.ping()
