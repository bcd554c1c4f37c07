"""Captures, and the jobs made of them."""

import numpy as np
import orjson
import pytest

from client import Capture, CaptureError, SampleRange, receiver
from client.job import MAX_BODY_BYTES, make_job, resampled_id
from schemas.job import JobHeaders
from schemas.sigmf import SigmfMetadata

ROOF = receiver("Roof", latitude=45.0, longitude=7.0)


def capture(**changes: object) -> Capture:
    """One receiver, a hundred samples at 50 kS/s."""
    return Capture(**{"samples": np.ones(100, np.complex64), "sample_rate": 50e3, **changes})  # type: ignore[arg-type]


def test_metadata_is_in_transport_form() -> None:
    """Channels, receivers and the extension are declared, and the wire's own model takes it."""
    document = capture(receivers=[ROOF], center_frequency=145.5e6).metadata()
    metadata = SigmfMetadata.model_validate(document)
    assert metadata.global_.num_channels == 1
    assert metadata.global_.extensions[0].name == "heimdall"
    assert not metadata.global_.extensions[0].optional
    assert metadata.center_frequency_hz == 145.5e6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": np.ones(10)}, "real-valued"),
        ({"samples": np.ones((1, 2, 3), np.complex64)}, "shape"),
        ({"samples": np.ones(0, np.complex64)}, "no sample"),
        ({"samples": b"\0" * 7, "datatype": "ci16_le"}, "7 bytes"),
        ({"samples": b"\0" * 8, "datatype": "float"}, "unknown datatype"),
        ({"receivers": [ROOF, ROOF]}, "2 receivers for 1 channels"),
        ({"sample_rate": 0.0}, "above zero"),
        ({"sample_rate": float("nan")}, "above zero"),
        ({"capture_time": "yesterday"}, "capture_time"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes: dict[str, object], message: str) -> None:
    """A capture that no worker could take is refused where it is made."""
    with pytest.raises(CaptureError, match=message):
        capture(**changes)


def test_two_receivers_of_one_name_are_refused() -> None:
    """The wire's rules are applied before anything is sent."""
    with pytest.raises(CaptureError, match="share an id"):
        capture(samples=np.ones((2, 10), np.complex64), receivers=[ROOF, ROOF]).metadata()


def test_resampling_keeps_windows_within_the_capture() -> None:
    """The samples of a batch job move with the rate."""
    windows = [SampleRange(sample_start=0, sample_count=50), SampleRange(sample_start=50, sample_count=50)]
    resampled = capture(windows=windows).resampled(25e3)
    assert [(one.sample_start, one.sample_count) for one in resampled.windows] == [(0, 25), (25, 25)]
    assert resampled.length == 50


def test_confidence_arrives_as_it_was_asked_for() -> None:
    """AMQP floats are 32 bits wide here, so levels travel as decimals."""
    job = make_job(capture(), user_id=None, confidence=[0.9, 0.95, 1e-6])
    assert JobHeaders.model_validate(dict(job.headers)).confidences == (0.9, 0.95, 1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"job_id": "a b"}, "job id"),
        ({"job_id": "x" * 129}, "job id"),
        ({"confidence": 1.0}, "confidence"),
        ({"confidence": [0.5, 0.0]}, "confidence"),
        ({"session_id": ""}, "session_id"),
    ],
)
def test_bad_options_are_refused_before_anything_is_sent(options: dict[str, object], message: str) -> None:
    """The message names the option."""
    with pytest.raises(CaptureError, match=message):
        make_job(capture(), user_id=None, **options)  # type: ignore[arg-type]


def test_too_large_is_refused_before_the_broker_closes_the_channel() -> None:
    """Body and metadata have limits that would cost every waiting call its channel."""
    with pytest.raises(CaptureError, match="bytes"):
        make_job(capture(samples=np.ones(MAX_BODY_BYTES // 8 + 1, np.complex64)), user_id=None)
    with pytest.raises(CaptureError, match="metadata"):
        make_job(capture(description={"core:comment": "x" * 70_000}), user_id=None)


def test_repeat_is_the_same_message() -> None:
    """Publishing a job again changes nothing in it."""
    job = make_job(capture(), user_id="me", deadline_ms=5)
    first, second = job.message(), job.message()
    assert (first.body, first.headers, first.message_id) == (second.body, second.headers, second.message_id)
    assert orjson.loads(str(first.headers["sigmf"]))["global"]["core:datatype"] == "cf32_le"


def test_resampled_id_is_stable_and_valid() -> None:
    """A retry of a resampled job finds the outcome of before."""
    assert resampled_id("a" * 128) == "a" * 100 + ".resampled"
    assert resampled_id("job") == resampled_id("job")
