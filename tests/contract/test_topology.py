"""deploy/rabbitmq/definitions.json makes exactly what a worker with default settings would declare."""

import json
from typing import Any

from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel

from tests.contract.examples import ROOT
from worker.amqp.topology import Topology
from worker.config import Settings

DEFINITIONS = json.loads((ROOT / "deploy/rabbitmq/definitions.json").read_text(encoding="utf-8"))


class RecordingQueue:
    """A queue that notes its bindings."""

    def __init__(self, name: str, bindings: set[tuple[str, str, str]]) -> None:
        self.name = name
        self._bindings = bindings

    async def bind(self, exchange: str, routing_key: str | None = None, **_: object) -> None:
        """Note it."""
        self._bindings.add((exchange, self.name, routing_key or ""))


class RecordingChannel:
    """A channel that notes what is declared on it."""

    def __init__(self) -> None:
        self.exchanges: dict[str, tuple[str, bool, dict[str, Any]]] = {}
        self.queues: dict[str, tuple[bool, dict[str, Any]]] = {}
        self.bindings: set[tuple[str, str, str]] = set()
        self.passive: set[str] = set()

    async def declare_exchange(
        self,
        name: str,
        kind: ExchangeType = ExchangeType.DIRECT,
        *,
        passive: bool = False,
        durable: bool = False,
        arguments: dict[str, Any] | None = None,
        **_: object,
    ) -> None:
        """Note it."""
        if passive:
            self.passive.add(name)
        else:
            self.exchanges[name] = (kind.value, durable, arguments or {})

    async def declare_queue(
        self,
        name: str,
        *,
        passive: bool = False,
        durable: bool = False,
        arguments: dict[str, Any] | None = None,
        **_: object,
    ) -> RecordingQueue:
        """Note it."""
        if passive:
            self.passive.add(name)
        else:
            self.queues[name] = (durable, arguments or {})
        return RecordingQueue(name, self.bindings)


async def declared(*, declare: bool) -> RecordingChannel:
    """What a worker with default settings declares."""
    defaults = {
        name: Settings.model_fields[name].default for name in Topology.__dataclass_fields__ if name != "declare"
    }
    channel = RecordingChannel()
    as_channel: AbstractChannel = channel  # type: ignore[assignment]
    await Topology(**defaults, declare=declare).establish(as_channel, 1.0)
    return channel


async def test_exchanges_agree() -> None:
    """Names, types and arguments."""
    made = {e["name"]: (e["type"], e["durable"], e["arguments"]) for e in DEFINITIONS["exchanges"]}
    assert made == (await declared(declare=True)).exchanges


async def test_queues_agree() -> None:
    """Names and arguments: a difference would close the worker's channel at its first declaration."""
    made = {q["name"]: (q["durable"], q["arguments"]) for q in DEFINITIONS["queues"]}
    assert made == (await declared(declare=True)).queues


async def test_bindings_agree() -> None:
    """What leads where."""
    made = {(b["source"], b["destination"], b["routing_key"]) for b in DEFINITIONS["bindings"]}
    assert made == (await declared(declare=True)).bindings


async def test_a_worker_that_may_not_declare_only_looks() -> None:
    """Everything it asks for passively is in the definitions, and it makes nothing."""
    channel = await declared(declare=False)
    assert not channel.exchanges
    assert not channel.queues
    assert not channel.bindings
    assert channel.passive <= {item["name"] for item in DEFINITIONS["exchanges"] + DEFINITIONS["queues"]}
