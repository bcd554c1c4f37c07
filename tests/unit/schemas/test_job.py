import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.job import DEFAULT_CONFIDENCE, JOB_ID, JobHeaders, JsonJob


def test_headers_have_defaults():
    """A job without headers asks for the default ellipses and for the cache."""
    headers = JobHeaders()
    assert headers.confidences == DEFAULT_CONFIDENCE == (0.68, 0.95)
    assert headers.cache_enabled
    assert headers.continue_on_error
    assert headers.session_id is None
    assert headers.deadline_ms is None


def test_foreign_headers_are_ignored():
    """Headers of other systems may travel with a job."""
    assert JobHeaders.model_validate({"traceparent": "00-…", "CC": ["x"]}) == JobHeaders()


@given(st.lists(st.floats(1e-9, 0.999), min_size=1, max_size=8))
def test_confidences_keep_their_order_and_come_once(asked):
    """The first asked is the first answered; repetitions give no second ellipse."""
    confidences = JobHeaders(confidence=asked).confidences
    assert set(confidences) == set(asked)
    assert len(set(confidences)) == len(confidences)
    assert confidences[0] == asked[0]
    assert [asked.index(c) for c in confidences] == sorted(asked.index(c) for c in confidences)


def test_one_confidence_may_be_a_number():
    """A single confidence needs no list."""
    assert JobHeaders(confidence=0.5).confidences == (0.5,)


@pytest.mark.parametrize(
    "headers",
    [
        {"confidence": 0},
        {"confidence": 0.9991},
        {"confidence": -0.5},
        {"confidence": float("nan")},
        {"confidence": float("inf")},
        {"confidence": []},
        {"confidence": [0.5, 1.0]},
        {"confidence": [0.5] * 9},
        {"confidence": "high"},
        {"deadline_ms": -1},
        {"deadline_ms": 1.5},
        {"deadline_ms": "soon"},
        {"session_id": ""},
        {"session_id": "x" * 129},
        {"session_id": 5},
        {"capture_time": "yesterday"},
        {"capture_time": 1_600_000_000},
        {"cache_enabled": "perhaps"},
        {"continue_on_error": 7},
        {"sigmf": 5},
    ],
)
def test_a_wrong_header_is_refused_by_name(headers):
    """Each header's values are limited to what the wire contract says."""
    with pytest.raises(ValidationError) as caught:
        JobHeaders.model_validate(headers)
    assert {error["loc"][0] for error in caught.value.errors()} == set(headers)


@given(st.from_regex(r"[A-Za-z0-9._-]{1,128}", fullmatch=True))
def test_job_ids_are_plain_names(job_id):
    """Letters, digits, dot, underscore and hyphen, 1 to 128 of them."""
    assert JOB_ID.fullmatch(job_id)


@pytest.mark.parametrize("job_id", ["", "a" * 129, "a b", "a/b", "a\n", "é", "a:b", "a*", "a\x00"])
def test_other_job_ids_are_not(job_id):
    """What could name another key, or break a line, is no job id."""
    assert not JOB_ID.fullmatch(job_id)


def test_a_json_job_takes_no_unknown_field():
    """A misspelt field is an error, not a default."""
    with pytest.raises(ValidationError, match="sample_rte"):
        JsonJob.model_validate({"iq_data": [[0, 0]], "sample_rte": 1})


@pytest.mark.parametrize(
    "changes",
    [
        {"iq_data": []},
        {"iq_data": {"i": [1]}},
        {"iq_samples": []},
        {"iq_samples": [[]]},
        {"sample_rate": 0},
        {"sample_rate": 1e13},
        {"receivers": []},
        {"session_id": ""},
    ],
)
def test_a_wrong_field_of_a_json_job_is_refused(changes):
    """Empty lists and impossible rates are refused before the numbers are looked at."""
    with pytest.raises(ValidationError) as caught:
        JsonJob.model_validate({"iq_data": [[0, 0]]} | changes)
    assert caught.value.errors()[0]["loc"][0] in changes
