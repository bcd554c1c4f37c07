import json

import pamqp.commands
import pytest
from pamqp.header import ContentHeader

from tests.unit.amqp.messages import Message
from worker.amqp.delivery import read_delivery
from worker.capsule import capsule
from worker.errors import Expired, InferenceFailed, MalformedIq
from worker.job import Job, Outcome
from worker.outgoing import dead_letter, event_publications, is_dead, reply
from worker.results import error_outcome

REPLAYED = {
    "session_id": "s",
    "capture_time": "2026-01-01T00:00:00Z",
    "deadline_ms": 5,
    "confidence": [0.5, 0.9],
    "cache_enabled": False,
    "continue_on_error": True,
    "sigmf": "{}",
}
FRAME_MAX = 131_072
RESULT = Outcome(b'{"job_id":"job-1"}', None)


def job_of(error=None, outcome=None, **message):
    """A job with an outcome: of an error, or the one given."""
    job = Job(read_delivery(object(), Message(**message), 10_000_000))
    job.digest_input()
    job.outcome = error_outcome(job, error) if error is not None else outcome
    return job


def stored(outcome):
    """The same outcome, found in the store."""
    return Outcome(outcome.body, outcome.error, fresh=False)


def header_bytes(publication):
    """Size of the frame that carries the properties and headers."""
    properties = pamqp.commands.Basic.Properties(
        content_type=publication.content_type,
        headers=publication.headers,
        delivery_mode=2,
        correlation_id=publication.correlation_id,
    )
    return len(ContentHeader(0, len(publication.body), properties).marshal()) + 8


def test_a_reply_is_the_outcome_to_the_address_of_this_delivery():
    """Mandatory, with the requester's correlation id, and nothing else of its headers."""
    job = job_of(outcome=RESULT, reply_to="amq.gen-x", correlation_id="c", headers={"CC": ["heimdall.inference"]})
    publication = reply(job)
    assert publication is not None
    assert (publication.exchange, publication.routing_key) == ("", "amq.gen-x")
    assert (publication.body, publication.content_type) == (RESULT.body, "application/json")
    assert publication.mandatory
    assert publication.correlation_id == "c"
    assert publication.headers == {}


def test_an_error_is_answered_as_a_problem():
    """The media type tells a program what it reads."""
    publication = reply(job_of(Expired("late"), reply_to="amq.gen-x"))
    assert publication is not None
    assert publication.content_type == "application/problem+json"


@pytest.mark.parametrize("reply_to", [None, "heimdall.inference"])
def test_nobody_is_answered_who_did_not_ask_or_may_not(reply_to):
    """No address, or a refused one: no reply."""
    assert reply(job_of(outcome=RESULT, reply_to=reply_to)) is None


def test_a_job_without_outcome_has_nothing_to_publish():
    """Before there is an outcome nothing goes out."""
    job = job_of(reply_to="amq.gen-x")
    assert reply(job) is None
    assert event_publications(job) == []
    assert not is_dead(job)


@pytest.mark.parametrize(
    ("error", "fresh", "redelivered", "dead"),
    [
        (None, True, False, False),
        (MalformedIq("x"), True, False, True),
        (MalformedIq("x"), False, False, False),
        (MalformedIq("x"), False, True, True),
        (Expired("x"), True, False, False),
        (Expired("x"), False, True, False),
    ],
)
def test_errors_die_once_unless_the_broker_is_not_sure(error, fresh, redelivered, dead):
    """A stored error is dead-lettered again only when its message came back: it may not have got there before."""
    job = job_of(error, None if error else RESULT, redelivered=redelivered)
    if not fresh:
        job.outcome = stored(job.outcome)
    assert is_dead(job) is dead


@pytest.mark.parametrize(
    ("fresh", "redelivered", "count"), [(True, False, 1), (False, False, 0), (False, True, 1), (True, True, 1)]
)
def test_events_are_told_once_unless_the_broker_is_not_sure(fresh, redelivered, count):
    """A repeat is no news; a redelivery may be."""
    job = job_of(outcome=RESULT if fresh else stored(RESULT), redelivered=redelivered)
    publications = event_publications(job)
    assert len(publications) == count
    for publication in publications:
        assert (publication.exchange, publication.routing_key) == ("heimdall.events", "localization.complete")
        assert not publication.mandatory
        assert json.loads(publication.body)["data"] == {"job_id": "job-1"}


def test_a_dead_letter_says_what_failed_and_whose_it_was():
    """The original body, with code, reason, publisher, worker; what is not known is left out."""
    job = job_of(InferenceFailed("no fix"), body=b"iq", user_id="alice", correlation_id="c", headers=dict(REPLAYED))
    letter = dead_letter(job, "worker-1")
    assert (letter.exchange, letter.mandatory, letter.persistent) == ("heimdall.dead", True, True)
    assert (letter.body, letter.content_type, letter.correlation_id) == (b"iq", "application/octet-stream", "c")
    beside = {name: value for name, value in letter.headers.items() if name not in capsule(job, ())}
    assert beside == REPLAYED | {
        "heimdall-job-id": "job-1",
        "heimdall-code": "inference_failed",
        "heimdall-reason": "no fix",
        "heimdall-publisher": "alice",
        "heimdall-worker": "worker-1",
    }


def test_a_dead_letter_names_even_an_invalid_id():
    """Whoever looks for the job finds it under the id it was sent with."""
    assert dead_letter(job_of(MalformedIq("x"), message_id="a b"), "w").headers["heimdall-job-id"] == "a b"
    assert "heimdall-job-id" not in dead_letter(job_of(MalformedIq("x"), message_id=None), "w").headers


@pytest.mark.parametrize("name", ["CC", "BCC", "x-delay", "x-death", "x-match", "heimdall-code", "user_id", "other"])
def test_no_other_header_is_copied(name):
    """CC and BCC would add routes of the publisher's choice; nobody may speak in the worker's name either."""
    letter = dead_letter(job_of(MalformedIq("x"), headers={name: ["heimdall.inference"]}), "w")
    assert name not in letter.headers or letter.headers[name] == "malformed_iq"


def test_a_long_reason_is_cut():
    """The reason is a sentence, however much of the input it repeats."""
    assert len(dead_letter(job_of(MalformedIq("x" * 5000)), "w").headers["heimdall-reason"]) == 1000


def test_an_oversize_header_is_left_out():
    """What could not be published again does not stop the dead letter."""
    headers = REPLAYED | {"session_id": "x" * 70_000, "capture_time": ["y"] * 30_000}
    letter = dead_letter(job_of(MalformedIq("x"), headers=headers), "w")
    assert not {"session_id", "capture_time"} & set(letter.headers)
    assert letter.headers["sigmf"] == "{}"


def test_sound_metadata_travel_whole():
    """A replay needs the metadata: up to their own limit they are kept."""
    letter = dead_letter(job_of(MalformedIq("x"), headers={"sigmf": "x" * 65_000}), "w")
    assert len(letter.headers["sigmf"]) == 65_000


@pytest.mark.parametrize("text", ["x" * 65_536, "\n" * 40_000, "'\"" * 30_000])
def test_metadata_up_to_their_own_limit_are_kept(text):
    """Line feeds and quotes count as one byte each, as on the wire."""
    assert len(text) <= 65_536
    letter = dead_letter(job_of(MalformedIq("x"), headers={"sigmf": text}), "w")
    assert letter.headers.get("sigmf") == text


@pytest.mark.parametrize(
    "headers",
    [
        {"sigmf": "x" * 65_000, "session_id": "y" * 65_000},
        {"sigmf": "é" * 65_000},
        {"sigmf": "x" * 44_000, "session_id": "y" * 43_000, "capture_time": "z" * 43_000},
    ],
)
def test_a_dead_letter_always_fits_a_frame(headers):
    """Headers that fitted the publisher's frame must fit ours, or the broker closes our connection, again and again."""
    assert header_bytes(dead_letter(job_of(MalformedIq("x"), headers=headers), "worker-1")) <= FRAME_MAX


def test_a_valid_session_is_always_kept():
    """A replay belongs to the same session, whatever its alphabet."""
    session = "東" * 128
    job = job_of(MalformedIq("x"), headers={"session_id": session})
    assert job.session_id == session
    assert dead_letter(job, "w").headers["session_id"] == session
