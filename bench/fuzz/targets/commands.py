"""Control commands: nobody but an operator moves a worker, and whoever sends whatever, the answer is one reply.

Input: one byte that chooses who sends (of `SENDERS`) and the routing key, then the body of the command.
"""

import asyncio
import json
import os
from collections.abc import Coroutine
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Any, Final, cast

from aio_pika.abc import AbstractIncomingMessage

from bench.fuzz.mutations import as_json, odd_value, spoil_bytes, spoil_json
from bench.fuzz.target import REFUSED, TAKEN, Target
from schemas.control import CommandReply
from worker.amqp.publishing import Publication
from worker.amqp.session import AmqpSession
from worker.control import Control
from worker.serving.model import Models
from worker.telemetry.metrics import Metrics

OPERATOR: Final = "alice"
SENDERS: Final = (OPERATOR, None, "", "bob", "Alice", "alice ", "alice\x00", "*", OPERATOR)
_KEYS: Final = ("worker.all", "worker.w-1", "worker.#")
_LONGEST_S: Final = 5.0
_NAMES: Final = ("ping", "info", "reload", "pause", "resume", "drain")


@dataclass
class _Message:
    """What control reads of a message."""

    body: bytes
    user_id: str | None
    routing_key: str
    reply_to: str | None = "amq.gen-x"
    correlation_id: str | None = "c"


@dataclass
class _Desk:
    """Notes what was done and what was answered; nothing in it ever waits."""

    done: list[str] = field(default_factory=list)
    published: list[Publication] = field(default_factory=list)

    def state(self) -> str:
        return "serving"

    async def reload(self, expect: str | None) -> str:
        assert expect is None or expect.isdecimal()
        return self._note("reload")

    async def pause(self, *, fleet: bool) -> str:  # noqa: ARG002 - of the protocol
        return self._note("pause")

    async def resume(self, *, fleet: bool) -> str:  # noqa: ARG002 - of the protocol
        return self._note("resume")

    async def drain(self) -> str:
        return self._note("drain")

    async def publish(self, publications: list[Publication]) -> list[bool]:
        self.published += publications
        return [True] * len(publications)

    def _note(self, action: str) -> str:
        self.done.append(action)
        return action


_METRICS: Final = Metrics()


def run(data: bytes) -> str:
    """Hand the command in; what was done is what an operator's valid command says, once, and the answer says so."""
    choice = data[0] if data else 0
    user, key = SENDERS[choice % len(SENDERS)], _KEYS[choice // len(SENDERS) % len(_KEYS)]
    desk = _Desk()
    control = Control("w-1", (OPERATOR,), desk, Models(lambda _: None), _METRICS)
    message = cast("AbstractIncomingMessage", _Message(data[1:], user, key))
    _finish(control._handle(cast("AmqpSession", desk), message))  # noqa: SLF001 - the callback that the queue gets
    assert len(desk.published) == 1
    reply = CommandReply.model_validate_json(desk.published[0].body)
    if not reply.ok:
        assert desk.done == []
        return REFUSED
    assert user == OPERATOR
    assert desk.done == ([] if reply.command in {"ping", "info"} else [reply.command])
    return TAKEN


@cache
def _loop(_process: int) -> asyncio.AbstractEventLoop:
    """The loop of this process; one that was forked cannot be used."""
    return asyncio.new_event_loop()


def _finish(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine to its end, which must not wait for anything but itself."""
    _loop(os.getpid()).run_until_complete(asyncio.wait_for(coroutine, _LONGEST_S))


def _document(rng: Random) -> dict[str, Any]:
    name = rng.choice(_NAMES)
    document: dict[str, Any] = {"command": name, "command_id": f"c-{rng.randrange(10**6)}"}
    if name == "reload" and rng.random() < 0.5:
        document["expect"] = str(rng.randrange(10**6))
    return document


def valid(rng: Random) -> bytes:
    """A command of the operator."""
    return bytes([0]) + json.dumps(_document(rng)).encode()


def make(rng: Random) -> bytes:
    """Sound or spoilt, from anybody."""
    document = _document(rng)
    who = bytes([rng.randrange(256)])
    match rng.randrange(6):
        case 0:
            return who + json.dumps(document).encode()
        case 1:
            return who + spoil_bytes(rng, as_json(rng, document))
        case 2:
            extra = {rng.choice(("url", "path", "model", "source", "command", "expect")): odd_value(rng)}
            return who + as_json(rng, document | extra)
        case _:
            return who + as_json(rng, spoil_json(rng, document))


TARGET: Final = Target("control", valid, make, run)
