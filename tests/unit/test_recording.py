import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.problems import ErrorCode
from tests.support.graphs import metadata, receivers, tone
from worker.errors import JobError, MalformedIq, MalformedMetadata, NonFiniteIq, TooLarge, UnsupportedDatatype
from worker.reading import MAX_KNOWN_BYTES, read_json, read_sigmf
from worker.recording import decode_capture


def sigmf(channels=1, **changes):
    """The header of a tone."""
    return json.dumps(metadata(channels, **changes))


def json_job(**fields):
    """The body of a JSON job."""
    return json.dumps(fields).encode()


@pytest.mark.parametrize("kind", [str, bytes])
def test_a_sigmf_recording_is_read(kind):
    """Metadata as text or bytes; the body stays untouched until it is decoded."""
    body = tone(channels=2)
    header = sigmf(2) if kind is str else sigmf(2).encode()
    recording = read_sigmf(header, body)
    assert recording.body is body
    assert (recording.channels, recording.ranges, recording.batch) == (2, ((0, 256),), False)
    assert (recording.sample_rate, recording.center_frequency_hz) == (48_000.0, 145.5e6)
    assert recording.capture_time == "2026-01-01T00:00:00.123456789Z"
    assert [receiver.id for receiver in recording.receivers] == ["rx0", "rx1"]
    capture = decode_capture(recording, 0)
    np.testing.assert_array_equal(capture.samples, np.frombuffer(body, "<c8").reshape(-1, 2).T)
    assert capture.receivers == recording.receivers
    assert not capture.clipped


def test_a_sample_is_cut_out_of_the_recording():
    """Ranges count samples per channel; only their own bytes are decoded."""
    body = bytearray(tone(channels=2))
    body[: 8 * 2 * 10] = np.full(20, np.nan, "<c8").tobytes()
    named = [{"sample_start": 10, "sample_count": 5}, {"sample_start": 9, "sample_count": 1}]
    recording = read_sigmf(sigmf(2, **{"heimdall:samples": named}), bytes(body))
    assert recording.batch
    assert recording.ranges == ((10, 5), (9, 1))
    expected = np.frombuffer(bytes(body), "<c8").reshape(-1, 2).T[:, 10:15]
    np.testing.assert_array_equal(decode_capture(recording, 0).samples, expected)
    with pytest.raises(NonFiniteIq):
        decode_capture(recording, 1)


def test_what_a_source_repeats_is_validated_once():
    """The receivers of a global object that came before are the same objects; any change makes others."""
    first, again = (read_sigmf(sigmf(2), tone(channels=2)).receivers for _ in range(2))
    assert first[0] is again[0]
    elsewhere = receivers(2)
    elsewhere[0]["geolocation"]["coordinates"][0] += 1e-9
    moved = read_sigmf(sigmf(2, **{"heimdall:receivers": elsewhere}), tone(channels=2)).receivers
    assert moved[0] != first[0]
    assert moved[1] == first[1]


def test_a_large_global_object_is_not_kept():
    """What anybody may send must not fill the memory."""
    large = sigmf(2, **{"core:comment": "x" * MAX_KNOWN_BYTES})
    first, again = (read_sigmf(large, tone(channels=2)).receivers for _ in range(2))
    assert first == again
    assert first[0] is not again[0]


def test_one_named_sample_is_a_batch_job():
    """Whoever names samples gets a list."""
    named = [{"sample_start": 0, "sample_count": 256}]
    assert read_sigmf(sigmf(**{"heimdall:samples": named}), tone()).batch


@pytest.mark.parametrize(
    ("header", "body", "error", "said"),
    [
        (None, b"", MalformedMetadata, "the header `sigmf` is missing"),
        ("", b"", MalformedMetadata, "is no JSON"),
        ("{", b"", MalformedMetadata, "is no JSON"),
        (b"\xff", b"", MalformedMetadata, "is no JSON"),
        ("[" * 2000, b"", MalformedMetadata, "is no JSON"),
        ('{"global": {"core:sample_rate": NaN}}', b"", MalformedMetadata, "is no JSON"),
        ("[]", b"", MalformedMetadata, ""),
        ("{}", b"", MalformedMetadata, "global: Field required"),
        (sigmf(**{"core:sample_rate": -1}), b"", MalformedMetadata, "global/core:sample_rate"),
        (sigmf(**{"core:datatype": "rf32_le"}), b"", UnsupportedDatatype, "real-valued"),
        (sigmf(**{"core:datatype": "cf16_le"}), b"", UnsupportedDatatype, "unknown"),
        (sigmf(), b"", MalformedIq, "the body has 0 bytes"),
        (sigmf(), b"x" * 7, MalformedIq, "8 bytes each"),
        (sigmf(2), b"x" * 24, MalformedIq, "2 channel"),
        (
            sigmf(**{"heimdall:samples": [{"sample_start": 250, "sample_count": 7}]}),
            tone(),
            MalformedIq,
            "ends at 257, but each channel has 256",
        ),
        (
            sigmf(**{"heimdall:samples": [{"sample_start": 10**30, "sample_count": 1}]}),
            tone(),
            (MalformedIq, MalformedMetadata),
            "",
        ),
        (
            sigmf(**{"heimdall:samples": [{"sample_start": 0, "sample_count": 1}] * 101}),
            tone(),
            TooLarge,
            "at most 100 samples",
        ),
        (" " * 65_537, b"", TooLarge, "65537 bytes"),
    ],
)
def test_what_is_wrong_with_a_recording_is_told(header, body, error, said):
    """Each fault has its error, and a text that says where it is."""
    with pytest.raises(error) as caught:
        read_sigmf(header, body)
    assert said in caught.value.detail


def test_a_hundred_samples_are_taken():
    """The limit itself is no error."""
    named = [{"sample_start": i, "sample_count": 1} for i in range(100)]
    assert len(read_sigmf(sigmf(**{"heimdall:samples": named}), tone()).ranges) == 100


def test_particulars_point_to_their_fields():
    """At most five particulars are told, each with the path of its field."""
    broken = {f"heimdall:x{i}": i for i in range(3)} | {
        "core:num_channels": 0,
        "core:sample_rate": 0,
        "core:offset": "x",
    }
    with pytest.raises(MalformedMetadata) as caught:
        read_sigmf(sigmf(**broken), b"")
    pointers = [error.pointer for error in caught.value.errors]
    assert "global/core:num_channels" in pointers
    assert "global/core:sample_rate" in pointers
    assert len(pointers) <= 5
    with pytest.raises(UnsupportedDatatype) as caught:
        read_sigmf(sigmf(**{"core:datatype": "x"}), b"")
    assert caught.value.errors[0].pointer == "global/core:datatype"


def test_a_long_list_of_faults_is_cut():
    """A thousand wrong receivers give five particulars of limited length."""
    wrong = [{"id": "x" * 1000}] * 60
    with pytest.raises(MalformedMetadata) as caught:
        read_sigmf(sigmf(60, **{"heimdall:receivers": wrong}), b"")
    assert len(caught.value.errors) == 5
    assert all(len(error.detail) <= 300 for error in caught.value.errors)
    assert len(caught.value.detail) < 5 * 700


def test_a_recording_without_captures_has_no_time():
    """What is not said is not known."""
    recording = read_sigmf(json.dumps({"global": metadata()["global"]}), tone())
    assert recording.capture_time is None
    assert recording.center_frequency_hz is None


def test_a_json_job_is_read():
    """[N][2] is one receiver, [R][N][2] several; every field reaches the recording."""
    one = read_json(json_job(iq_data=[[0.5, -0.5], [1, 0]]))
    assert (one.channels, one.ranges, one.batch, one.sample_rate, one.datatype) == (1, ((0, 2),), False, None, None)
    np.testing.assert_array_equal(decode_capture(one, 0).samples, [[0.5 - 0.5j, 1]])
    several = read_json(
        json_job(
            iq_data=[[[1, 2], [3, 4], [5, 6]], [[7, 8], [9, 10], [11, 12]]],
            sample_rate=50e3,
            center_frequency=145.5e6,
            receivers=receivers(2),
            session_id="s",
            cache_enabled=False,
        )
    )
    assert (several.channels, several.ranges) == (2, ((0, 3),))
    assert (several.sample_rate, several.center_frequency_hz, several.session_id) == (50e3, 145.5e6, "s")
    assert several.cache_enabled is False
    assert [receiver.id for receiver in several.receivers] == ["rx0", "rx1"]
    capture = decode_capture(several, 0)
    np.testing.assert_array_equal(capture.samples, [[1 + 2j, 3 + 4j, 5 + 6j], [7 + 8j, 9 + 10j, 11 + 12j]])
    assert capture.samples.dtype == np.complex64


def test_a_json_batch_may_have_samples_of_different_lengths():
    """Each sample is an array of its own; they share the number of receivers."""
    job = read_json(json_job(iq_samples=[[[1, 0], [2, 0]], [[3, 0]]]))
    assert (job.batch, job.ranges) == (True, ((0, 2), (0, 1)))
    np.testing.assert_array_equal(decode_capture(job, 1).samples, [[3]])


@pytest.mark.parametrize(
    ("body", "error", "said"),
    [
        (b"{", MalformedMetadata, "the body is no JSON"),
        (b"\xff\xfe", MalformedMetadata, "the body is no JSON"),
        (b"[]", MalformedMetadata, ""),
        (json_job(), MalformedMetadata, "exactly one of"),
        (json_job(iq_data=[[1, 2]], iq_samples=[[[1, 2]]]), MalformedMetadata, "exactly one of"),
        (json_job(iq_data=[[1, 2]], rate=1), MalformedMetadata, "rate: Extra"),
        (json_job(iq_data=[]), MalformedMetadata, "iq_data"),
        (json_job(iq_data=[1, 2]), MalformedIq, "iq_data has the shape [2]"),
        (json_job(iq_data=[[1, 2, 3]]), MalformedIq, "the shape [1, 3]"),
        (json_job(iq_data=[[]]), MalformedIq, "the shape [1, 0]"),
        (json_job(iq_data=[[[[1, 2]]]]), MalformedIq, "the shape [1, 1, 1, 2]"),
        (json_job(iq_data=[[1, 2], [3]]), MalformedIq, "no rectangular array"),
        (json_job(iq_data=[["1", "2"]]), MalformedIq, "something other than numbers"),
        (json_job(iq_data=[[None, 2]]), MalformedIq, "something other than numbers"),
        (json_job(iq_data=[[True, False]]), MalformedIq, "something other than numbers"),
        (json_job(iq_data=[[{"i": 1}, 2]]), MalformedIq, "something other than numbers"),
        (json_job(iq_data=[[1e39, 0]]), NonFiniteIq, "beyond single precision"),
        (json_job(iq_samples=[[[1, 2]], [[1]]]), MalformedIq, "iq_samples/1 has the shape"),
        (
            json_job(iq_samples=[[[1, 2]], [[[1, 2]], [[3, 4]]]]),
            MalformedIq,
            "differ in their number of receivers: [1, 2]",
        ),
        (json_job(iq_samples=[[[1, 2]]] * 101), TooLarge, "at most 100 samples"),
        (json_job(iq_data=[[[1, 2]]] * 65), TooLarge, "at most 64 receivers"),
        (json_job(iq_data=[[1, 2]], receivers=receivers(2)), MalformedMetadata, "one per receiver"),
        (json_job(iq_data=[[[1, 2]]] * 2, receivers=receivers(1) * 2), MalformedMetadata, "share an id"),
        (b" " * (1024 * 1024 + 1), TooLarge, "1048576 bytes"),
        (b'{"iq_data": [[' + b"9" * 400 + b", 0]]}", JobError, ""),
    ],
)
def test_what_is_wrong_with_a_json_job_is_told(body, error, said):
    """Each fault has its error, and a text that names the field."""
    with pytest.raises(error) as caught:
        read_json(body)
    assert said in caught.value.detail


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=20,
)


FIELDS = (
    "iq_data",
    "iq_samples",
    "sample_rate",
    "center_frequency",
    "receivers",
    "session_id",
    "cache_enabled",
)


def code_of(read, *arguments):
    """The code of the error that reading gives; None where it gives none."""
    try:
        read(*arguments)
    except JobError as error:
        return error.code
    return None


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, json_values)))
def test_no_json_document_is_a_bug(document):
    """Whatever JSON says, it is a recording or an error of the table."""
    assert code_of(read_json, json.dumps(document).encode()) is not ErrorCode.INTERNAL


@given(json_values, st.binary(max_size=40))
def test_no_metadata_are_a_bug(document, body):
    """The same for SigMF metadata of any shape."""
    for candidate in (
        document,
        {"global": document},
        metadata() | {"captures": document},
        metadata(**{"heimdall:samples": document}),
        metadata(**{"heimdall:receivers": document}),
    ):
        assert code_of(read_sigmf, json.dumps(candidate), body) is not ErrorCode.INTERNAL


def test_clipping_is_more_than_a_hundredth_at_full_scale():
    """One sample in a hundred may be at full scale; more is a clipped recording."""
    codes = np.zeros(2000, np.int16)
    codes[: 2 * 10] = 32_767
    header = sigmf(**{"core:datatype": "ci16_le"})
    assert not decode_capture(read_sigmf(header, codes.tobytes()), 0).clipped
    codes[20] = -32_768
    assert decode_capture(read_sigmf(header, codes.tobytes()), 0).clipped


def test_in_dbm_a_full_scale_tone_has_its_power_at_the_antenna():
    """The full scale of each receiver scales its samples, so that |x|² is in milliwatts; clipping is judged before."""
    stated = [
        receiver | {"full_scale_dbm": level} for receiver, level in zip(receivers(2), (-30.0, -50.0), strict=True)
    ]
    ones = np.ones((256, 2), "<c8").tobytes()
    recording = read_sigmf(sigmf(2, **{"heimdall:receivers": stated}), ones)
    capture = decode_capture(recording, 0, "dbm")
    powers = 10 * np.log10(np.mean(np.abs(capture.samples) ** 2, axis=1))
    np.testing.assert_allclose(powers, [-30.0, -50.0], atol=1e-4)
    assert (capture.level, capture.clipped) == ("dbm", True)


def test_levels_of_a_json_job_are_applied_once():
    """A sample that is decoded again, as the canary's failures are, is the same again."""
    stated = [receivers(1)[0] | {"full_scale_dbm": -20.0}]
    recording = read_json(json_job(iq_data=[[1, 0]] * 4, receivers=stated, sample_rate=48_000))
    first, again = (decode_capture(recording, 0, "dbm").samples for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_the_description_is_all_that_decides_the_features():
    """Datatype, channels, rate, frequency and receivers tell inputs apart; times and names of fields do not."""
    body = tone(channels=2)
    same = {"core:author": "x"}
    different = [
        {"core:sample_rate": 48_001.0},
        {"core:datatype": "ci32_le"},
        {"heimdall:receivers": receivers(2, full_scale_dbm=-20.0)},
        {"heimdall:receivers": list(reversed(receivers(2)))},
    ]
    plain = read_sigmf(sigmf(2), body).describe()
    assert read_sigmf(sigmf(2, **same), body).describe() == plain
    others = [read_sigmf(sigmf(2, **changes), body).describe() for changes in different]
    assert len({plain, *others}) == 1 + len(different)
    tuned = metadata(2)
    tuned["captures"][0]["core:frequency"] = 1.0
    assert read_sigmf(json.dumps(tuned), body).describe() != plain
    tuned["captures"][0] = metadata(2)["captures"][0] | {"core:datetime": "2026-01-01T00:00:00Z"}
    assert read_sigmf(json.dumps(tuned), body).describe() == plain
