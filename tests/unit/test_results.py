import json
import math
import time
from datetime import timedelta
from weakref import ref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import COMPLETE, FAILED, CompleteEvent, FailedEvent
from schemas.problems import ErrorCode, Problem
from schemas.result import BatchResult, LocalizationResult
from schemas.time import parse_datetime_ns
from tests.support.graphs import ANSWERS_NAN, Shape, answer, load, receivers
from tests.support.rfc7946 import assert_rfc7946
from tests.unit.amqp.messages import Message, sigmf_message
from worker import compute
from worker.amqp.delivery import read_delivery
from worker.compute import prepare_runs, read_jobs
from worker.errors import Expired, InferenceFailed
from worker.geo.wgs84 import metres_per_degree
from worker.job import Job
from worker.results import decode_rows, encode_results, error_outcome, event_bodies, stored_outcome
from worker.serving.rollout import Rollout

STALE_AFTER_S = 10.0
SAMPLES = [{"sample_start": 0, "sample_count": 200}, {"sample_start": 56, "sample_count": 200}]


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    """A model version that answers 45, 7.6 and a little."""
    return load(tmp_path_factory.mktemp("linear"))


def read(version, *messages):
    """Jobs whose features are computed."""
    jobs = [Job(read_delivery(object(), message, 10_000_000)) for message in messages]
    for job in jobs:
        job.error = job.delivery.problem
    read_jobs(jobs, Rollout(version), caching=False)
    return jobs


def located(version, *messages):
    """Jobs that went through the model and have their outcomes."""
    jobs = read(version, *messages)
    for run in prepare_runs([sample for job in jobs if job.error is None for sample in job.samples], 8):
        run.compute()
    decode_rows(jobs)
    encode_results(jobs, stale_after_s=STALE_AFTER_S)
    return jobs


def result_of(version, message):
    """The validated result of a job with one sample."""
    return LocalizationResult.model_validate_json(located(version, message)[0].outcome.body)


def test_a_result_is_as_the_wire_describes_it(version):
    """One sample, three receivers: every field has its value."""
    message = sigmf_message(3, headers={"session_id": "s-1"}, user_id="alice")
    before = time.time_ns()
    job = located(version, message)[0]
    result = LocalizationResult.model_validate_json(job.outcome.body)
    assert (result.job_id, result.session_id, result.model_version) == ("job-1", "s-1", "7")
    assert result.model.model_dump() == version.reference()
    assert result.capture_time == "2026-01-01T00:00:00.123456789Z"
    assert result.center_frequency_hz == 145.5e6
    assert result.input_digest == job.input_digest
    assert before <= parse_datetime_ns(result.timestamp) <= time.time_ns()
    age_ns = parse_datetime_ns(result.timestamp) - parse_datetime_ns(result.capture_time)
    assert result.age_ms == pytest.approx(age_ns / 1e6, rel=1e-12)
    assert [receiver.id for receiver in result.receivers_used] == ["rx0", "rx1", "rx2"]
    assert result.receivers_ignored == []
    assert result.confidence is None
    assert result.cache_hit is False
    assert result.timings_ms.total >= result.timings_ms.decode >= 0
    assert job.outcome.content_type == "application/json"
    assert (job.outcome.fresh, job.outcome.storable, job.outcome.error) == (True, True, None)


def test_position_and_uncertainty_are_the_models(version):
    """The fix is the graph's answer; degrees of sigma are metres at the fix; both ellipses are drawn."""
    job = located(version, sigmf_message(1))[0]
    result = LocalizationResult.model_validate_json(job.outcome.body)
    raw = job.samples[0].row["position"]
    assert (result.position.latitude, result.position.longitude) == pytest.approx(tuple(raw.tolist()))
    north, east = metres_per_degree(result.position.latitude)
    assert result.uncertainty.sigma_x == pytest.approx(0.02 * float(east), rel=1e-6)
    assert result.uncertainty.sigma_y == pytest.approx(0.01 * float(north), rel=1e-6)
    assert np.allclose(result.covariance_m2, np.diag([result.uncertainty.sigma_x**2, result.uncertainty.sigma_y**2]))
    assert [e.confidence for e in result.ellipses] == [0.68, 0.95]
    assert result.ellipse == result.ellipses[0]
    assert result.uncertainty.confidence_interval == 0.68
    for ellipse in result.ellipses:
        k = math.sqrt(-2 * math.log(1 - ellipse.confidence))
        assert ellipse.semi_major_m == pytest.approx(k * result.uncertainty.sigma_x, rel=1e-6)
        assert ellipse.semi_minor_m == pytest.approx(k * result.uncertainty.sigma_y, rel=1e-6)
        assert ellipse.azimuth_deg == pytest.approx(90.0)
        assert ellipse.area_m2 == pytest.approx(math.pi * ellipse.semi_major_m * ellipse.semi_minor_m)


def test_asked_confidences_are_answered_in_their_order(version):
    """Ellipses come as asked; on the map the largest lies below."""
    result = result_of(version, sigmf_message(1, headers={"confidence": [0.5, 0.99, 0.9]}))
    assert [e.confidence for e in result.ellipses] == [0.5, 0.99, 0.9]
    assert result.ellipse.confidence == result.uncertainty.confidence_interval == 0.5
    ids = [feature["id"] for feature in result.geojson["features"]]
    assert ids == ["job-1/0/ellipse-99", "job-1/0/ellipse-90", "job-1/0/ellipse-50", "job-1/0/fix"]


def test_the_geojson_is_geojson(version):
    """RFC 7946, with the job's identity in every feature."""
    result = result_of(version, sigmf_message(3, headers={"session_id": "s"}))
    assert_rfc7946(result.geojson)
    for feature in result.geojson["features"]:
        assert {
            key: feature["properties"][key] for key in ("job_id", "session_id", "capture_time", "model_version")
        } == {
            "job_id": "job-1",
            "session_id": "s",
            "capture_time": "2026-01-01T00:00:00.123456789Z",
            "model_version": "7",
        }
    point = result.geojson["features"][-1]["geometry"]["coordinates"]
    assert point == pytest.approx([result.position.longitude, result.position.latitude], abs=1e-6)


@pytest.mark.parametrize(
    ("message", "flags"),
    [
        (sigmf_message(3), {"stale"}),
        (sigmf_message(1), {"few_receivers", "stale"}),
        (sigmf_message(1, body=np.ones(256, "<c8").tobytes()), {"few_receivers", "clipped", "stale"}),
    ],
)
def test_flags_say_what_to_be_careful_with(version, message, flags):
    """Few receivers, clipping and age, each where it stands."""
    assert set(result_of(version, message).flags) == flags


def test_a_fresh_capture_is_not_stale(version):
    """Age counts from the capture; a capture in the future has a negative one; none has none."""
    now = time.time_ns()
    message = sigmf_message(3)
    document = json.loads(message.headers["sigmf"])
    for offset, stale in ((timedelta(seconds=-30), True), (timedelta(seconds=0), False), (timedelta(days=1), False)):
        seconds = now // 10**9 + int(offset.total_seconds())
        document["captures"][0]["core:datetime"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
        message.headers["sigmf"] = json.dumps(document)
        result = result_of(version, message)
        assert ("stale" in result.flags) is stale
        assert result.age_ms is not None
        assert (result.age_ms < 0) is (offset.days > 0)
    del document["captures"][0]["core:datetime"]
    message.headers["sigmf"] = json.dumps(document)
    result = result_of(version, message)
    assert (result.age_ms, result.capture_time, result.flags) == (None, None, [])


def test_a_fix_outside_the_area_is_flagged(tmp_path):
    """The contract says where the model is valid."""
    result = result_of(load(tmp_path, area=[5.0, 43.0, 7.0, 47.0]), sigmf_message(3))
    assert "outside_area" in result.flags


def test_receivers_that_were_left_out_are_named(version):
    """The strongest take part; the others are listed with the reason."""
    iq = np.frombuffer(sigmf_message(5).body, "<c8").reshape(-1, 5) * np.array([1, 0.5, 0.1, 0.6, 0.7], "<c8")
    result = result_of(version, sigmf_message(5, body=iq.astype("<c8").tobytes()))
    assert [receiver.id for receiver in result.receivers_used] == ["rx0", "rx3", "rx4"]
    assert [receiver.id for receiver in result.receivers_ignored] == ["rx1", "rx2"]
    assert "the strongest were kept" in result.receivers_ignored[0].reason


def test_channels_without_receivers_are_numbered(version):
    """A job that names no receivers still learns which channels took part."""
    body = json.dumps({"iq_data": [[[0.1, 0.2]] * 256, [[0.2, 0.1]] * 256]}).encode()
    result = result_of(version, Message(body=body, content_type="application/json"))
    assert [(receiver.id, receiver.geolocation) for receiver in result.receivers_used] == [
        ("channel 0", None),
        ("channel 1", None),
    ]
    assert result.center_frequency_hz is None


def test_a_confidence_is_handed_on(tmp_path):
    """Where the model gives one."""
    sure = load(tmp_path, Shape(confidence=0.75), confidence={"output": "confidence"})
    assert result_of(sure, sigmf_message(1)).confidence == pytest.approx(0.75)


def test_a_batch_job_answers_each_sample(version):
    """Predictions in the order asked, job-level fields once, with the totals."""
    job = located(version, sigmf_message(3, info={"heimdall:samples": SAMPLES}))[0]
    result = BatchResult.model_validate_json(job.outcome.body)
    assert [prediction.sample for prediction in result.predictions] == [0, 1]
    assert result.samples_per_second == pytest.approx(2 / (result.total_time_ms / 1000))
    document = json.loads(job.outcome.body)
    assert not set(document["predictions"][0]) & {"job_id", "model", "timestamp"}
    for index, prediction in enumerate(document["predictions"]):
        assert_rfc7946(prediction["geojson"])
        assert prediction["geojson"]["features"][-1]["id"] == f"job-1/{index}/fix"


NAN_IN_SECOND = [{"sample_start": 0, "sample_count": 200}, {"sample_start": 200, "sample_count": 200}]


def half_broken(**changes):
    """A batch job whose second sample holds NaN."""
    iq = np.frombuffer(sigmf_message(1).body * 2, "<c8").copy()
    iq[300] = np.nan
    return sigmf_message(1, body=iq.tobytes(), info={"heimdall:samples": NAN_IN_SECOND}, **changes)


def test_one_bad_sample_does_not_harm_its_neighbour(version):
    """The batch job is a result; the bad sample's place holds its problem."""
    result = BatchResult.model_validate_json(located(version, half_broken())[0].outcome.body)
    first, second = result.predictions
    assert not isinstance(first, Problem)
    assert isinstance(second, Problem)
    assert (second.code, second.sample, second.job_id) == (ErrorCode.NON_FINITE_IQ, 1, "job-1")


def test_the_first_error_fails_the_job_that_asked_for_that(version):
    """continue_on_error false: one bad sample is the answer to all."""
    job = located(version, half_broken(headers={"continue_on_error": False}))[0]
    problem = Problem.model_validate_json(job.outcome.body)
    assert (problem.code, job.outcome.error) == (ErrorCode.NON_FINITE_IQ, "non_finite_iq")
    assert problem.input_digest == job.input_digest
    assert job.outcome.reason == problem.detail


def test_a_batch_job_of_errors_is_an_error(version):
    """With no position at all there is nothing to answer but the first error."""
    iq = np.full(400, np.nan, "<c8").tobytes()
    job = located(version, sigmf_message(1, body=iq, info={"heimdall:samples": NAN_IN_SECOND}))[0]
    assert job.outcome.error == "non_finite_iq"


def test_what_is_no_position_is_an_error(tmp_path):
    """NaN from the model is inference_failed, with the reason, and no NaN goes out."""
    job = located(load(tmp_path, ANSWERS_NAN), sigmf_message(1))[0]
    problem = Problem.model_validate_json(job.outcome.body)
    assert problem.code is ErrorCode.INFERENCE_FAILED
    assert "not finite" in problem.detail


def test_jobs_of_a_batch_are_answered_apart(version):
    """Located, refused and expired jobs of one batch each have their own outcome."""
    jobs = read(version, sigmf_message(2, message_id="a"), Message(message_id="b"), sigmf_message(1, message_id="c"))
    jobs[2].error = Expired("too late")
    for run in prepare_runs([sample for job in jobs if job.error is None for sample in job.samples], 8):
        run.compute()
    decode_rows(jobs)
    encode_results(jobs, stale_after_s=STALE_AFTER_S)
    assert [job.outcome.error for job in jobs] == [None, "malformed_metadata", "expired"]
    assert [json.loads(job.outcome.body)["job_id"] for job in jobs] == ["a", "b", "c"]


def test_two_versions_in_one_batch_answer_as_themselves(version, tmp_path):
    """A canary's jobs are read by the canary's contract."""
    other = load(tmp_path, Shape(position=(44.0, 8.0)), version="8")
    jobs = read(version, sigmf_message(1, message_id="a")) + read(other, sigmf_message(1, message_id="b"))
    for run in prepare_runs([sample for job in jobs for sample in job.samples], 8):
        run.compute()
    decode_rows(jobs)
    encode_results(jobs, stale_after_s=STALE_AFTER_S)
    results = [LocalizationResult.model_validate_json(job.outcome.body) for job in jobs]
    assert [result.model_version for result in results] == ["7", "8"]
    assert results[0].position.latitude - results[1].position.latitude == pytest.approx(1.0, abs=1e-4)


def test_answers_can_be_computed_by_hand(version):
    """The position is the graph's formula on the spectrogram's mean."""
    job = read(version, sigmf_message(2))[0]
    run = prepare_runs(job.samples, 8)[0]
    run.compute()
    mean = float(run.tensors["mel"].astype(np.float64).mean())
    np.testing.assert_allclose(job.samples[0].row["position"], answer(mean), rtol=1e-6)


def test_no_number_of_a_result_is_infinite(tmp_path):
    """However large the model's uncertainty, the answer validates."""
    huge = load(
        tmp_path, Shape(uncertainty=(685.0, 685.0)), uncertainty={"output": "uncertainty", "kind": "log_variance"}
    )
    outcome = located(huge, sigmf_message(1))[0].outcome
    (LocalizationResult if outcome.error is None else Problem).model_validate_json(outcome.body)


def test_an_error_without_an_id_is_not_stored(version):
    """There is no key for it; the reply and the dead letter are its trace."""
    job = located(version, Message(message_id="a b"))[0]
    assert (job.outcome.error, job.outcome.storable) == ("malformed_envelope", False)
    assert Problem.model_validate_json(job.outcome.body).job_id is None


def test_an_outcome_can_be_kept_from_the_store(version):
    """A conflict must never take the place of what is stored."""
    job = read(version, sigmf_message(1))[0]
    assert error_outcome(job, InferenceFailed("x")).storable
    assert not error_outcome(job, InferenceFailed("x"), storable=False).storable


def test_a_stored_outcome_is_what_it_was(version):
    """Read back, result and error keep their bytes; the digest says what they answer."""
    for message in (sigmf_message(1), Message(message_id="b")):
        job = located(version, message)[0]
        outcome, digest = stored_outcome(job.outcome.body)
        assert (outcome.body, outcome.error) == (job.outcome.body, job.outcome.error)
        assert outcome.fresh is False
        assert digest == job.input_digest
    assert stored_outcome(b'{"code": "expired"}')[1] is None


def test_a_located_job_is_one_event(version):
    """The event carries the result as it was stored."""
    outcome = located(version, sigmf_message(1))[0].outcome
    ((key, body),) = event_bodies(outcome)
    event = CompleteEvent.model_validate_json(body)
    assert key == COMPLETE == event.event
    assert json.loads(body)["data"] == json.loads(outcome.body)
    assert isinstance(event.data, LocalizationResult)


def test_a_failed_job_is_one_event(version):
    """Its data is the problem, with the job's session."""
    outcome = located(version, Message(headers={"session_id": "s"}))[0].outcome
    ((key, body),) = event_bodies(outcome)
    failed = FailedEvent.model_validate_json(body)
    assert key == FAILED
    assert (failed.data.code, failed.data.session_id) == (ErrorCode.MALFORMED_METADATA, "s")


def test_a_batch_job_is_one_event_per_sample(version):
    """Each located sample carries its job's fields; each failed one is its problem."""
    job = located(version, half_broken(headers={"session_id": "s"}))[0]
    (first_key, first), (second_key, second) = event_bodies(job.outcome)
    assert (first_key, second_key) == (COMPLETE, FAILED)
    complete, failed = CompleteEvent.model_validate_json(first), FailedEvent.model_validate_json(second)
    assert (complete.data.job_id, complete.data.session_id, complete.data.sample) == ("job-1", "s", 0)
    assert (failed.data.session_id, failed.data.sample, failed.data.code) == ("s", 1, ErrorCode.NON_FINITE_IQ)


@given(st.sampled_from(['"predictions":', 'x"predictions": [', '"code":']))
def test_text_of_a_publisher_is_not_taken_for_structure(text):
    """A session named like a field changes nothing."""
    document = {"job_id": "j", "session_id": text, "position": {}}
    outcome, _ = stored_outcome(json.dumps(document, separators=(",", ":")).encode())
    assert outcome.error is None
    assert [key for key, _ in event_bodies(outcome)] == [COMPLETE]


def test_samples_are_computed_in_runs_of_limited_size(version):
    """Three samples with runs of two are two runs; order and rows are kept."""
    jobs = read(version, *(sigmf_message(1, seed=i, message_id=f"j{i}") for i in range(3)))
    runs = prepare_runs([sample for job in jobs for sample in job.samples], 2)
    assert [[sample.job.job_id for sample in run.samples] for run in runs] == [["j0", "j1"], ["j2"]]
    part = runs[0].part([1])
    assert part.samples == runs[0].samples[1:]
    assert part.tensors["mel"].tobytes() == runs[0].tensors["mel"][1:].tobytes()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_sample_whose_features_overflow_is_in_no_run(version):
    """It carries its error, and its neighbour is computed."""
    loud = np.full(256, 1e30, "<c8").tobytes()
    jobs = read(version, sigmf_message(1, body=loud, message_id="a"), sigmf_message(1, message_id="b"))
    (run,) = prepare_runs([sample for job in jobs for sample in job.samples], 8)
    assert [sample.job.job_id for sample in run.samples] == ["b"]
    assert jobs[0].samples[0].error.code is ErrorCode.NON_FINITE_IQ
    assert prepare_runs(jobs[0].samples, 8) == []


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_neighbours_of_every_kind_have_the_features_of_each_alone(version):
    """Computed several at once where they are alike; what is wrong with one is that one's fault alone."""
    loud, broken = np.full(256, 1e30, "<c8").tobytes(), np.full(256, np.nan, "<c8").tobytes()
    bodies = {3: {"body": loud}, 5: {"body": broken}}
    messages = [sigmf_message(2 if i == 7 else 1, seed=i, message_id=f"j{i}", **bodies.get(i, {})) for i in range(10)]
    jobs = read(version, *messages)
    (run,) = prepare_runs([sample for job in jobs for sample in job.samples], 16)
    assert [sample.job.job_id for sample in run.samples] == [f"j{i}" for i in range(10) if i not in bodies]
    assert {job.samples[0].error and job.samples[0].error.code for job in jobs} == {None, ErrorCode.NON_FINITE_IQ}
    for row, sample in enumerate(run.samples):
        (alone,) = prepare_runs([sample], 1)
        assert {name: tensor[row].tobytes() for name, tensor in run.tensors.items()} == {
            name: tensor[0].tobytes() for name, tensor in alone.tensors.items()
        }
    assert all(job.timings.features > 0 for job in jobs if job.samples[0].error is None)


def test_a_bug_fails_its_own_job_alone(version, monkeypatch):
    """What is not foreseen is `internal`; neighbours are read and computed all the same."""
    decode, read_one = compute.decode_capture, compute.read_sigmf

    def broken_decode(recording, index, level):
        if recording.receivers[0].id == "bug":
            raise KeyError("decode")
        return decode(recording, index, level)

    def broken_read(header, body):
        if b"bug" in body:
            raise KeyError("read")
        return read_one(header, body)

    monkeypatch.setattr(compute, "decode_capture", broken_decode)
    monkeypatch.setattr(compute, "read_sigmf", broken_read)
    bug = [receivers(1)[0] | {"id": "bug"}]
    jobs = read(
        version,
        sigmf_message(1, info={"heimdall:receivers": bug}),
        Message(message_id="b", body=b"bug"),
        sigmf_message(1, message_id="c"),
    )
    (run,) = prepare_runs([sample for job in jobs for sample in job.samples], 8)
    assert [sample.job.job_id for sample in run.samples] == ["c"]
    assert jobs[0].samples[0].error.code is ErrorCode.INTERNAL
    assert jobs[1].error.code is ErrorCode.INTERNAL
    assert "KeyError" in jobs[1].error.detail


def test_cache_keys_are_made_where_both_sides_want_them(version):
    """The job may forbid the cache, and so may the worker; each sample of a batch job has its own key."""

    def keys(message, *, caching=True):
        job = Job(read_delivery(object(), message, 10_000_000))
        read_jobs([job], Rollout(version), caching=caching)
        prepare_runs(job.samples, 8)
        return [(sample.front_key, sample.row_key) for sample in job.samples]

    assert keys(sigmf_message(1), caching=False) == [(None, None)]
    assert keys(sigmf_message(1, headers={"cache_enabled": False})) == [(None, None)]
    ((front, row),) = keys(sigmf_message(1))
    assert front.startswith(b"heimdall:cache:f:")
    assert row.startswith(b"heimdall:cache:r:")
    assert keys(sigmf_message(1, message_id="other", headers={"confidence": 0.5})) == [(front, row)]
    batch = keys(sigmf_message(1, info={"heimdall:samples": SAMPLES}))
    assert len({key for pair in batch for key in pair}) == 4
    assert front not in {key for key, _ in batch}


@pytest.mark.usefixtures("no_garbage_collector")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    "wrong",
    [
        {"content_type": "text/plain"},
        {"headers": {"sigmf": "{}"}},
        {"body": b"123"},
        {"body": np.full(256, np.nan, "<c8").tobytes()},
        {"body": np.full(256, 1e30, "<c8").tobytes()},
    ],
    ids=["envelope", "metadata", "length", "not finite", "overflow"],
)
def test_a_batch_with_a_bad_job_goes_with_who_held_it(version, wrong):
    """The error that a job carries keeps neither it nor its neighbours until the garbage collector comes by."""
    jobs = located(version, sigmf_message(1), sigmf_message(1, **wrong))
    assert [job.outcome.error is None for job in jobs] == [True, False]
    kept = [ref(held) for job in jobs for held in (job, job.delivery)]
    del jobs
    assert [held() for held in kept] == [None] * 4
