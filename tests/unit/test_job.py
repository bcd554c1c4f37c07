from itertools import combinations
from weakref import ref

import pytest
from blake3 import blake3
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.amqp.messages import Message, sigmf_message
from worker.amqp.delivery import read_delivery
from worker.job import Job, Outcome, Sample
from worker.reading import read_json

TYPE = "application/octet-stream"


def job_of(message):
    """A job with its digests."""
    job = Job(read_delivery(object(), message, 10_000_000))
    job.digest_input()
    return job


def test_the_body_digest_is_that_of_the_body():
    """BLAKE3, raw."""
    assert job_of(Message(body=b"abc")).body_digest == blake3(b"abc").digest()


@pytest.mark.usefixtures("no_garbage_collector")
def test_a_job_goes_with_who_held_it():
    """Its body is not kept until the garbage collector comes by."""
    job = job_of(Message(body=b"abc"))
    job.samples = [Sample(ref(job), index) for index in range(2)]
    assert all(sample.job is job for sample in job.samples)
    kept = ref(job)
    del job
    assert kept() is None


def test_the_input_digest_names_its_algorithm():
    """As results carry it."""
    digest = job_of(Message()).input_digest
    assert digest.startswith("blake3:")
    assert len(digest) == len("blake3:") + 64


def test_publisher_type_metadata_and_body_tell_inputs_apart():
    """A change in any of the four is another input."""
    messages = [
        Message(),
        Message(user_id="alice"),
        Message(user_id="bob"),
        Message(content_type="application/json"),
        Message(headers={"sigmf": "{}"}),
        Message(headers={"sigmf": "{} "}),
        Message(body=b"y"),
        Message(body=b""),
    ]
    digests = [job_of(message).input_digest for message in messages]
    assert all(a != b for a, b in combinations(digests, 2))


@given(st.text("ab", max_size=3), st.text("ab", max_size=3), st.text("ab", max_size=3), st.text("ab", max_size=3))
@example("a", TYPE + "b", "a" + TYPE, "b")
def test_parts_do_not_run_into_each_other(user, sigmf, other_user, other_sigmf):
    """What one part ends with cannot pass for the beginning of the next."""
    one = job_of(Message(user_id=user or None, headers={"sigmf": sigmf})).input_digest
    other = job_of(Message(user_id=other_user or None, headers={"sigmf": other_sigmf})).input_digest
    assert (one == other) == ((user, sigmf) == (other_user, other_sigmf))


def test_the_same_input_delivered_again_has_the_same_digest():
    """Where the answer goes, and how often the job came, is no input."""
    first = job_of(sigmf_message())
    again = job_of(
        sigmf_message(redelivered=True, correlation_id="c", reply_to="amq.gen-x", headers={"confidence": 0.5})
    )
    assert first.input_digest == again.input_digest


def test_metadata_as_bytes_are_the_same_metadata():
    """Some clients send text as byte arrays."""
    assert (
        job_of(Message(headers={"sigmf": "é"})).input_digest
        == job_of(Message(headers={"sigmf": "é".encode()})).input_digest
    )


@pytest.mark.parametrize(("header", "body", "expected"), [("h", "b", "h"), (None, "b", "b"), (None, None, None)])
def test_the_session_is_the_headers_else_the_bodys(header, body, expected):
    """A JSON body may name its session; the header wins."""
    job = job_of(Message(headers={"session_id": header} if header else {}))
    assert job.session_id == header
    job.recording = read_json(b'{"iq_data": [[0, 0]]' + (f', "session_id": "{body}"'.encode() if body else b"") + b"}")
    assert job.session_id == expected


@pytest.mark.parametrize(
    ("header", "body", "expected"),
    [(True, None, True), (False, None, False), (True, "false", False), (False, "true", True)],
)
def test_the_body_has_the_last_word_on_the_cache(header, body, expected):
    """Headers say it for both kinds of body; a JSON body may say it for itself."""
    job = job_of(Message(headers={"cache_enabled": header}))
    assert job.cache_enabled is header
    job.recording = read_json(b'{"iq_data": [[0, 0]]' + (f', "cache_enabled": {body}'.encode() if body else b"") + b"}")
    assert job.cache_enabled is expected


def test_the_capture_time_is_the_captures_else_the_headers():
    """core:datetime wins over the header."""
    job = job_of(Message(headers={"capture_time": "2026-01-01T00:00:00Z"}))
    job.recording = read_json(b'{"iq_data": [[0, 0]]}')
    assert job.capture_time == "2026-01-01T00:00:00Z"
    assert job_of(Message()).capture_time is None


def test_content_types_tell_results_from_problems():
    """Problem details have a media type of their own."""
    assert Outcome(b"", None).content_type == "application/json"
    assert Outcome(b"", "expired").content_type == "application/problem+json"
