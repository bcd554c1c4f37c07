"""Dead letters as they are read, chosen and judged."""

import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from worker.commands.dead_letter import is_job_id, read_letter
from worker.commands.dead_replay import Manner, Way
from worker.commands.dead_selection import Selection, since
from worker.commands.dead_stored import judge
from worker.input_digest import input_digest

NS = 1_000_000_000
SAID = {"heimdall-job-id": "a", "heimdall-code": "internal", "heimdall-reason": "a bug", "heimdall-publisher": "alice"}


def letter(body: bytes = b"iq", headers: dict[str, Any] | None = None, **properties: Any) -> Any:
    """A letter with these headers and properties."""
    fields = dict.fromkeys(("message_id", "content_type", "correlation_id", "user_id", "reply_to")) | properties
    return read_letter(SimpleNamespace(body=body, headers=SAID if headers is None else headers, **fields))


def test_headers_that_came_as_bytes_are_text() -> None:
    """Some clients write text so."""
    read = letter(headers={name: value.encode() for name, value in SAID.items()})
    assert (read.job_id, read.code, read.publisher) == ("a", "internal", "alice")


def test_a_letter_that_says_nothing_is_read_too() -> None:
    """Whatever lies in the queue can be listed, shown and dropped."""
    read = letter(headers={})
    assert (read.job_id, read.code, read.failed_at) == (None, "broker:unknown", None)
    assert json.loads(json.dumps(read.document()))["reason"] == "the letter does not say why"


def test_a_letter_of_the_broker() -> None:
    """Its first death says why, when and from where; the reply address counts, as nobody has answered."""
    death = {"reason": "delivery_limit", "queue": "heimdall.inference", "time": datetime(2026, 1, 1, tzinfo=UTC)}
    headers = {"x-death": [death | {"routing-keys": ["localize.other"]}]}
    read = letter(headers=headers, message_id="a", user_id="bob", reply_to="amq.gen-x")
    assert (read.code, read.routing_key, read.publisher, read.reply_to) == (
        "broker:delivery_limit",
        "localize.other",
        "bob",
        "amq.gen-x",
    )
    assert read.failed_at == "2026-01-01T00:00:00.000000000Z"
    assert "heimdall.inference" in read.reason


def test_a_claim_of_a_letter_of_the_broker() -> None:
    """Its digest stands for the body, as it does at the worker, so that its stored outcome is known for its own."""
    sha256 = "0f" * 32
    headers = {"claim": json.dumps({"url": "s3://jobs/iq/x", "size": 8, "sha256": sha256}), "sigmf": "{}"}
    read = letter(b"", headers=headers, message_id="a", user_id="bob", content_type="application/octet-stream")
    assert read.input_digest == input_digest("bob", "application/octet-stream", "{}", bytes.fromhex(sha256))
    for unreadable in ("", "{}", "[", 7):
        broken = letter(b"", headers=headers | {"claim": unreadable}, content_type="x")
        assert broken.input_digest == input_digest(None, "x", "{}", blake3(b"").digest())


@given(st.text(max_size=200), st.binary(max_size=50))
def test_a_new_id_is_valid_and_always_the_same(job_id: str, body: bytes) -> None:
    """For any id that a message may have; another body gets another one."""
    first = letter(body, headers=SAID | {"heimdall-job-id": job_id}).new_id()
    assert is_job_id(first)
    assert letter(body, headers=SAID | {"heimdall-job-id": job_id}).new_id() == first
    assert letter(body + b"!", headers=SAID | {"heimdall-job-id": job_id}).new_id() != first


def test_where_a_replay_goes() -> None:
    """To the key that was asked for, or else the job's own, or else the default one."""
    own = letter(headers=SAID | {"heimdall-routing-key": "localize.other"})
    assert Manner(False, "op", "localize.asked").key(own) == "localize.asked"
    assert Manner(False, "op").key(own) == "localize.other"
    assert Manner(False, "op").key(letter()) == "localize"


@pytest.mark.parametrize(
    ("text", "ago_s"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("1.5d", 129_600), ("1970-01-01T00:16:40Z", None)]
)
def test_since(text: str, ago_s: int | None) -> None:
    """An age counts back from now; an instant is itself."""
    now = 10**6 * NS
    assert since(text, lambda: now) == (1000 * NS if ago_s is None else now - ago_s * NS)


@pytest.mark.parametrize("text", ["", "5", "m", "-5m", "5 m", "yesterday"])
def test_since_neither(text: str) -> None:
    """The message shows both forms."""
    with pytest.raises(ValueError, match="RFC 3339"):
        since(text)


def test_every_condition_must_hold() -> None:
    """And a letter without a time is of no time."""
    dated = letter(headers=SAID | {"heimdall-failed-at": "2026-01-01T00:00:00Z"})
    assert dated in Selection(frozenset({"a"}), frozenset({"internal"}), dated.failed_ns)
    assert dated not in Selection(frozenset({"a"}), frozenset({"malformed_iq"}))
    assert dated not in Selection(since_ns=dated.failed_ns + 1)
    assert letter() not in Selection(since_ns=0)
    assert letter() in Selection()


OWN = input_digest("alice", None, None, blake3(b"iq").digest())


@pytest.mark.parametrize(
    ("stored", "way"),
    [
        ({"code": "internal", "input_digest": OWN}, Way.FREE),
        ({"position": {}, "input_digest": OWN}, Way.ANSWERED),
        ({"code": "internal", "input_digest": "sha256:00"}, Way.TAKEN),
        ({"position": {}, "input_digest": "sha256:00"}, Way.TAKEN),
        ({"code": "malformed_envelope"}, Way.FREE),
        ([], Way.TAKEN),
    ],
)
def test_what_may_be_deleted(stored: Any, way: Way) -> None:
    """An error of this very input, or one that says no input; nothing else."""
    assert judge(json.dumps(stored).encode(), letter()) is way


def test_what_is_no_outcome_is_left_alone() -> None:
    """Something else writes to Redis."""
    assert judge(b"\xff", letter()) is Way.TAKEN
