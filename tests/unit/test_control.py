import asyncio
import json
from dataclasses import dataclass, field, replace

import pytest
from structlog.testing import capture_logs

from schemas.control import CommandReply
from tests.support.graphs import load
from tests.unit.amqp.messages import Message
from worker.control import Control
from worker.errors import ModelRejected, Unavailable
from worker.serving.model import Models
from worker.serving.rollout import Rollout
from worker.telemetry.metrics import Metrics


@dataclass
class Session:
    """Where answers are published."""

    published: list = field(default_factory=list)
    error: Exception | None = None
    taken: bool = True

    async def publish(self, publications):
        """Take them, or fail."""
        if self.error is not None:
            raise self.error
        self.published += publications
        return [self.taken] * len(publications)


class Desk:
    """A control with one allowed user, and what it was asked to do."""

    def __init__(self):
        self.reloads = []
        self.calls = []
        self.error = None
        self.models = Models(lambda _: None)
        self.metrics = Metrics()
        self.session = Session()
        self.control = Control("w-1", ("alice",), self, self.models, self.metrics)

    def state(self):
        """As it is reported."""
        return "serving"

    async def reload(self, expect):
        """Note it, and fail as told."""
        self.reloads.append(expect)
        if self.error is not None:
            raise self.error
        return "version 7 serves"

    async def pause(self, *, fleet):
        """Note it."""
        self.calls.append(("pause", fleet))
        return "paused"

    async def resume(self, *, fleet):
        """Note it."""
        self.calls.append(("resume", fleet))
        return "serving"

    async def drain(self):
        """Note it, and fail as told."""
        self.calls.append(("drain", None))
        if self.error is not None:
            raise self.error
        return "nothing is held"

    async def send(self, command, *, user_id="alice", reply_to="amq.gen-x", routing_key="worker.all"):
        """Send a command and read the answer, if there is one."""
        body = command if isinstance(command, bytes) else json.dumps(command).encode()
        message = Message(body=body, user_id=user_id, reply_to=reply_to, correlation_id="c", routing_key=routing_key)
        before = len(self.session.published)
        await self.control._handle(self.session, message)
        answers = self.session.published[before:]
        return CommandReply.model_validate_json(answers[0].body) if answers else None

    def count(self, result):
        """Commands with this result."""
        return self.metrics.registry.get_sample_value("heimdall_commands_total", {"result": result}) or 0


@pytest.fixture
def desk():
    """A desk of its own."""
    return Desk()


PING = {"command": "ping", "command_id": "1"}
RELOAD = {"command": "reload", "command_id": "2", "expect": "7"}


async def test_an_allowed_user_is_answered(desk, tmp_path):
    """The answer says who answers, what was done and what serves."""
    desk.models.replace(Rollout(load(tmp_path)))
    reply = await desk.send(PING)
    assert (reply.command_id, reply.command, reply.instance, reply.ok) == ("1", "ping", "w-1", True)
    assert reply.state == "serving"
    assert [(served.version, served.alias) for served in reply.serving] == [("7", "production")]
    publication = desk.session.published[0]
    assert (publication.exchange, publication.routing_key, publication.correlation_id) == ("", "amq.gen-x", "c")
    assert publication.mandatory


@pytest.mark.parametrize("user", [None, "", "bob", "alice "])
async def test_nobody_else_commands(desk, user):
    """Without a validated user on the list nothing is carried out, and the refusal says so."""
    reply = await desk.send(RELOAD, user_id=user)
    assert not reply.ok
    assert "may not command" in reply.detail
    assert desk.reloads == []
    assert desk.count("refused") == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b'{"command": "reload", "command_id": "1", "url": "http://evil"}',
        b'{"command": "stop", "command_id": "1"}',
        b" " * 4097,
    ],
)
async def test_what_is_no_command_is_refused(desk, body):
    """Garbage, unknown commands, locations and long texts: refused, not carried out."""
    reply = await desk.send(body)
    assert not reply.ok
    assert reply.command is None
    assert desk.reloads == []


async def test_a_reload_hands_on_what_is_expected(desk):
    """Success and the reason of a failure come back."""
    assert (await desk.send(RELOAD)).detail == "version 7 serves"
    assert desk.reloads == ["7"]
    for number, error in enumerate((ModelRejected("golden[0]"), Unavailable("registry away"))):
        desk.error = error
        reply = await desk.send(RELOAD | {"command_id": f"x{number}"})
        assert (reply.ok, reply.detail) == (False, str(error))


async def test_a_command_is_carried_out_once(desk):
    """The same command again is answered as the first time, also when it came twice by a reconnect."""
    first, second = await desk.send(RELOAD), await desk.send(RELOAD)
    assert first == second
    assert desk.reloads == ["7"]
    assert desk.count("done") == 2


async def test_old_commands_are_forgotten(desk):
    """Memory is bounded: after a thousand others a command is new again."""
    await desk.send(RELOAD)
    for number in range(1000):
        await desk.send(PING | {"command_id": f"p{number}"}, reply_to=None)
    await desk.send(RELOAD)
    assert desk.reloads == ["7", "7"]


@pytest.mark.parametrize("reply_to", [None, "", "heimdall.iq", "heimdall.reply.bob.q"])
async def test_answers_go_only_where_they_may(desk, reply_to):
    """A command is carried out also when nobody can be told."""
    assert await desk.send(RELOAD, reply_to=reply_to) is None
    assert desk.reloads == ["7"]


async def test_an_answer_that_cannot_be_sent_is_no_failure(desk):
    """The command was carried out; the operator will ask again."""
    desk.session.error = Unavailable("lost")
    with capture_logs() as logs:
        assert await desk.send(RELOAD) is None
    assert desk.count("done") == 1
    assert [(line["command_id"], line["error"]) for line in logs if line["event"] == "control.reply_lost"] == [
        ("2", "lost")
    ]
    desk.session.error = None
    assert (await desk.send({"command": "info", "command_id": "3"})).ok


async def test_an_answer_that_no_queue_takes_is_told(desk):
    """Whoever asked had gone; the log says so."""
    desk.session.taken = False
    with capture_logs() as logs:
        assert (await desk.send(RELOAD)).ok
    assert [line["error"] for line in logs if line["event"] == "control.reply_lost"] == ["no queue took it"]


@pytest.mark.parametrize("name", ["pause", "resume"])
@pytest.mark.parametrize(("routing_key", "fleet"), [("worker.all", True), ("worker.w-1", False)])
async def test_a_pause_is_the_fleets_or_one_workers(desk, name, routing_key, fleet):
    """The routing key tells whether the registry decides or this worker alone."""
    reply = await desk.send({"command": name, "command_id": "p"}, routing_key=routing_key)
    assert (reply.ok, reply.command) == (True, name)
    assert desk.calls == [(name, fleet)]


async def test_a_drain_answers_with_what_came_of_it(desk):
    """Also why it did not end."""
    drain = {"command": "drain", "command_id": "d1"}
    assert (await desk.send(drain)).detail == "nothing is held"
    desk.error = Unavailable("lost")
    reply = await desk.send(drain | {"command_id": "d2"})
    assert (reply.ok, reply.detail) == (False, "lost")
    assert desk.calls == [("drain", None)] * 2


async def test_an_answer_names_every_version_that_serves(desk, tmp_path):
    """Canary and shadow too, each with its part."""
    parts = ("production", "canary", "shadow")
    loaded = load(tmp_path)
    versions = [replace(loaded, record=replace(loaded.record, version=str(i), alias=a)) for i, a in enumerate(parts)]
    desk.models.replace(Rollout(versions[0], versions[1], 5.0, versions[2]))
    reply = await desk.send({"command": "info", "command_id": "i"})
    assert [(served.version, served.alias) for served in reply.serving] == [
        ("0", "production"),
        ("1", "canary"),
        ("2", "shadow"),
    ]


async def test_a_repeat_waits_for_a_command_under_way(desk, monkeypatch):
    """The same command, sent again before it is answered, is carried out once and answered twice."""
    release = asyncio.Event()

    async def slow_reload(expect):
        desk.reloads.append(expect)
        await release.wait()
        return "version 7 serves"

    monkeypatch.setattr(desk, "reload", slow_reload)
    answers = [asyncio.ensure_future(desk.send(RELOAD)) for _ in range(2)]
    await asyncio.sleep(0.01)
    release.set()
    assert [(await answer).ok for answer in answers] == [True, True]
    assert desk.reloads == ["7"]
    await desk.control.close()


async def test_what_is_under_way_ends_with_the_control(desk, monkeypatch):
    """A worker that stops does not wait for a reload."""
    ended = asyncio.Event()

    async def endless_reload(expect):
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    monkeypatch.setattr(desk, "reload", endless_reload)
    sent = asyncio.ensure_future(desk.send(RELOAD))
    await asyncio.sleep(0.01)
    await asyncio.wait_for(desk.control.close(), 5)
    assert ended.is_set()
    sent.cancel()
