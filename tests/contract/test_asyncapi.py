"""schemas/asyncapi.yaml: every reference leads somewhere, and names agree with the topology."""

from collections.abc import Iterator
from typing import Any

import yaml

from schemas import control, events, job
from tests.contract.examples import ROOT
from worker.amqp.topology import DEAD, UNROUTED

DOCUMENT = yaml.safe_load((ROOT / "schemas/asyncapi.yaml").read_text(encoding="utf-8"))


def references(node: Any) -> Iterator[str]:
    """Every `$ref` below a node."""
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_it_has_what_version_3_requires() -> None:
    """Title, version, and for each operation an action and a channel."""
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert DOCUMENT["info"].keys() >= {"title", "version"}
    for operation in DOCUMENT["operations"].values():
        assert operation["action"] in {"send", "receive"}
        assert operation["channel"]["$ref"].startswith("#/channels/")


def test_every_reference_leads_somewhere() -> None:
    """Within the document, or to a schema file beside it."""
    for reference in references(DOCUMENT):
        if not reference.startswith("#/"):
            assert (ROOT / "schemas" / reference).is_file(), reference
            continue
        node = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            assert step in node, reference
            node = node[step]


def test_every_message_is_in_a_channel() -> None:
    """Nothing is described that does not travel."""
    sent = {name for channel in DOCUMENT["channels"].values() for name in channel["messages"]}
    assert sent == set(DOCUMENT["components"]["messages"])


def test_bindings_name_what_is_required_for_their_kind() -> None:
    """AMQP binding 0.3.0: a queue for `queue`, an exchange for `routingKey`, never both."""
    for channel in DOCUMENT["channels"].values():
        if channel["address"] is None:
            continue
        binding = channel["bindings"]["amqp"]
        named, other = ("queue", "exchange") if binding["is"] == "queue" else ("exchange", "queue")
        assert binding[named]["name"]
        assert other not in binding


def test_exchanges_and_queues_are_those_of_the_topology() -> None:
    """By name."""
    bindings = [c["bindings"]["amqp"] for c in DOCUMENT["channels"].values() if "bindings" in c]
    exchanges = {binding["exchange"]["name"] for binding in bindings if "exchange" in binding}
    queues = {binding["queue"]["name"] for binding in bindings if "queue" in binding}
    assert exchanges == {job.EXCHANGE, events.EXCHANGE, control.EXCHANGE, DEAD}
    assert queues == {"heimdall.inference", DEAD, UNROUTED}
