"""The main job: what goes in, what comes out, and where it is found."""

import json

import numpy as np
import pytest

from schemas.events import CompleteEvent, FailedEvent
from schemas.problems import Problem
from schemas.result import BatchResult, LocalizationResult
from tests.support.models import SIGMA_DEG, expected_position, metadata, tone
from tests.support.rfc7946 import assert_rfc7946
from tests.support.station import Publisher, Station

METRES = 1e-5  # degrees, about a metre


async def test_a_recording_is_located_where_the_model_says(jobs: Publisher) -> None:
    """A SigMF Recording of two receivers gets the position that the model's arithmetic gives by hand."""
    body = tone(3, channels=2)
    answer = await jobs.locate(body, sigmf=metadata(2))
    result = LocalizationResult.model_validate_json(answer.body)
    latitude, longitude = expected_position(body, "cf32_le", 2)
    assert result.position.latitude == pytest.approx(latitude, abs=METRES)
    assert result.position.longitude == pytest.approx(longitude, abs=METRES)
    assert result.covariance_m2[1][1] ** 0.5 == pytest.approx(SIGMA_DEG * 111_131.7, rel=1e-3)
    assert result.ellipses[1].semi_major_m == pytest.approx(2.4477 * SIGMA_DEG * 111_131.7, rel=1e-3)
    assert [used.id for used in result.receivers_used] == ["rx0", "rx1"]
    assert result.capture_time == "2026-01-01T00:00:00.123456789Z"
    assert result.center_frequency_hz == 145.5e6
    assert_rfc7946(result.geojson)


async def test_reply_store_and_event_hold_the_same(jobs: Publisher, shared_station: Station) -> None:
    """The stored outcome is byte for byte the reply, and the event carries it as its data."""
    answer = await jobs.locate(tone(4))
    job_id = answer.json["job_id"]
    assert shared_station.redis.get(f"heimdall:result:{job_id}") == answer.body
    assert 0 < shared_station.redis.ttl(f"heimdall:result:{job_id}") <= 3600
    await jobs.until(lambda: any(e.json["data"]["job_id"] == job_id for e in jobs.events))
    event = next(e for e in jobs.events if e.json["data"]["job_id"] == job_id)
    assert event.routing_key == "localization.complete"
    assert CompleteEvent.model_validate_json(event.body).data.job_id == job_id
    assert event.json["data"] == answer.json


async def test_json_of_one_and_of_many_receivers(jobs: Publisher) -> None:
    """The JSON body takes [N][2] and [receiver][N][2], and answers as the SigMF body does."""
    body = tone(5, channels=2)
    pairs = np.frombuffer(body, "<f4").reshape(-1, 2, 2)
    receivers = metadata(2)["global"]["heimdall:receivers"]
    two = {"iq_data": pairs.swapaxes(0, 1).tolist(), "receivers": receivers, "session_id": "s", "sample_rate": 48000}
    one = {"iq_data": pairs[:, 0].tolist()}
    by_sigmf = (await jobs.locate(body, sigmf=metadata(2))).json
    by_json = (await jobs.locate(json.dumps(two).encode(), content_type="application/json")).json
    alone = await jobs.locate(json.dumps(one).encode(), content_type="application/json")
    assert by_json["position"] == pytest.approx(by_sigmf["position"], abs=METRES)
    assert by_json["session_id"] == "s"
    assert LocalizationResult.model_validate_json(alone.body).receivers_used[0].geolocation is None


async def test_a_batch_job_answers_sample_by_sample(jobs: Publisher) -> None:
    """A batch job with one bad sample answers predictions and the error, in order, and tells an event for each."""
    good = np.frombuffer(tone(6), "<f4").reshape(-1, 2).tolist()
    loud = (np.frombuffer(tone(6), "<f4").reshape(-1, 2) * 1e4).tolist()
    body = json.dumps({"iq_samples": [good, loud, good]}).encode()
    answer = await jobs.locate(body, content_type="application/json")
    result = BatchResult.model_validate_json(answer.body)
    kinds = [type(prediction).__name__ for prediction in result.predictions]
    assert kinds == ["Prediction", "Problem", "Prediction"]
    problem = result.predictions[1]
    assert isinstance(problem, Problem)
    assert (problem.code, problem.sample) == ("inference_failed", 1)
    await jobs.until(lambda: sum(e.json["data"]["job_id"] == result.job_id for e in jobs.events) == 3)
    told = [e for e in jobs.events if e.json["data"]["job_id"] == result.job_id]
    assert [e.routing_key.split(".")[1] for e in told] == ["complete", "failed", "complete"]
    CompleteEvent.model_validate_json(told[0].body)
    FailedEvent.model_validate_json(told[1].body)


async def test_a_batch_job_that_must_not_go_on_fails_whole(jobs: Publisher) -> None:
    """With continue_on_error false the first error is the answer to the whole job."""
    good = np.frombuffer(tone(6), "<f4").reshape(-1, 2).tolist()
    loud = (np.frombuffer(tone(6), "<f4").reshape(-1, 2) * 1e4).tolist()
    body = json.dumps({"iq_samples": [good, loud]}).encode()
    answer = await jobs.locate(body, content_type="application/json", headers={"continue_on_error": False})
    assert answer.content_type == "application/problem+json"
    assert answer.code == "inference_failed"


async def test_named_samples_of_a_recording(jobs: Publisher) -> None:
    """`heimdall:samples` cuts the recording as it says: each part is located as if it came alone."""
    body = tone(7, n=4096)
    ranges = [{"sample_start": 0, "sample_count": 1024}, {"sample_start": 2048, "sample_count": 1024}]
    answer = await jobs.locate(body, sigmf=metadata(1, **{"heimdall:samples": ranges}))
    predictions = answer.json["predictions"]
    for prediction, part in zip(predictions, (body[: 8 * 1024], body[8 * 2048 : 8 * 3072]), strict=True):
        assert prediction["position"]["latitude"] == pytest.approx(expected_position(part, "cf32_le", 1)[0], abs=METRES)


async def test_a_hundred_samples_flow_through_several_runs(jobs: Publisher) -> None:
    """A batch job larger than a micro-batch is answered once, with all its samples."""
    ranges = [{"sample_start": 32 * i, "sample_count": 1024} for i in range(100)]
    answer = await jobs.locate(tone(8, n=4300), sigmf=metadata(1, **{"heimdall:samples": ranges}))
    assert len(BatchResult.model_validate_json(answer.body).predictions) == 100


async def test_confidences_are_as_asked(jobs: Publisher) -> None:
    """The header `confidence` decides which ellipses come, in its order."""
    answer = await jobs.locate(tone(9), headers={"confidence": [0.9, 0.5]})
    assert [ellipse["confidence"] for ellipse in answer.json["ellipses"]] == [0.9, 0.5]
    assert answer.json["ellipse"]["confidence"] == 0.9
    kinds = [feature["id"].rsplit("/", 1)[1] for feature in answer.json["geojson"]["features"]]
    assert kinds == ["ellipse-90", "ellipse-50", "fix"]


async def test_flags_say_what_a_fix_is_worth(jobs: Publisher) -> None:
    """One receiver of four is few; samples at full scale are clipped; a year-old capture is stale."""
    answer = await jobs.locate(tone(10, amplitude=3.0))
    assert set(answer.json["flags"]) == {"few_receivers", "clipped", "stale"}


async def test_more_receivers_than_the_model_takes(jobs: Publisher) -> None:
    """The strongest four of five are kept, and the reply says who was left out and why."""
    body = np.frombuffer(tone(11, channels=5), "<c8").reshape(-1, 5) * np.array([1, 1, 0.01, 1, 1])
    answer = await jobs.locate(body.astype("<c8").tobytes(), sigmf=metadata(5))
    assert [ignored["id"] for ignored in answer.json["receivers_ignored"]] == ["rx2"]
    assert "strongest" in answer.json["receivers_ignored"][0]["reason"]
    assert [used["id"] for used in answer.json["receivers_used"]] == ["rx0", "rx1", "rx3", "rx4"]


async def test_identical_input_is_computed_once(jobs: Publisher) -> None:
    """The same body under a new id is a cache hit with the same position; cache_enabled false computes anew."""
    body = tone(12, channels=2)
    first = (await jobs.locate(body, sigmf=metadata(2))).json
    second = (await jobs.locate(body, sigmf=metadata(2))).json
    third = (await jobs.locate(body, sigmf=metadata(2), headers={"cache_enabled": False})).json
    assert [answer["cache_hit"] for answer in (first, second, third)] == [False, True, False]
    assert first["position"] == second["position"] == third["position"]
    assert first["receivers_used"] == second["receivers_used"]


async def test_a_repeat_is_answered_with_the_stored_bytes(jobs: Publisher) -> None:
    """The same id with the same body is not computed again: the reply is byte for byte the first one."""
    job_id = "repeat-1"
    first = await jobs.locate(tone(13), job_id=job_id)
    second = await jobs.locate(tone(13), job_id=job_id)
    assert first.body == second.body
    assert first.correlation_id != second.correlation_id
