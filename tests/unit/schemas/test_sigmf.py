import numpy as np
import pytest
from pydantic import ValidationError

from schemas.sigmf import Datatype, DatatypeError, SigmfMetadata

EXTENSION = {"name": "heimdall", "version": "1.0.0", "optional": False}
POINT = {"type": "Point", "coordinates": [7.6, 45.0]}


def metadata(*, captures=(), **changes):
    """Least valid metadata, with changes of the global object."""
    info = {"core:datatype": "cf32_le", "core:sample_rate": 48_000, "core:extensions": [EXTENSION]} | changes
    return {"global": {k: v for k, v in info.items() if v is not None}, "captures": list(captures)}


def refusal(document):
    """What the validator says of a document."""
    with pytest.raises(ValidationError) as caught:
        SigmfMetadata.model_validate(document)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "numpy_name", "sample_bytes"),
    [
        ("cf32_le", "<f4", 8),
        ("cf32_be", ">f4", 8),
        ("cf64_le", "<f8", 16),
        ("cf64_be", ">f8", 16),
        ("ci32_le", "<i4", 8),
        ("ci16_be", ">i2", 4),
        ("ci8", "|i1", 2),
        ("cu32_be", ">u4", 8),
        ("cu16_le", "<u2", 4),
        ("cu8", "|u1", 2),
    ],
)
def test_complex_datatypes_are_read(name, numpy_name, sample_bytes):
    """Each complex SigMF datatype has its numpy name and size."""
    datatype = Datatype.parse(name)
    assert (datatype.numpy_name, datatype.sample_bytes, datatype.name) == (numpy_name, sample_bytes, name)
    assert np.dtype(datatype.numpy_name).itemsize * 2 == sample_bytes


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("rf32_le", "real-valued"),
        ("ri16_le", "real-valued"),
        ("ru8", "real-valued"),
        ("cf32", "say the byte order"),
        ("ci16", "say the byte order"),
        ("ci8_le", "carry no _le or _be"),
        ("cf16_le", "unknown"),
        ("ci64_le", "unknown"),
        ("CF32_LE", "unknown"),
        ("cf32_me", "unknown"),
        ("", "unknown"),
    ],
)
def test_other_datatypes_are_refused_with_the_reason(name, said):
    """Real-valued, unknown and incomplete datatypes are told apart."""
    with pytest.raises(DatatypeError, match=said):
        Datatype.parse(name)


def test_a_datatype_ends_with_its_last_character():
    """A line feed is no part of a datatype."""
    with pytest.raises(DatatypeError):
        Datatype.parse("cf32_le\n")


def test_least_metadata_is_one_channel_and_one_sample():
    """Datatype and rate are enough; the rest has SigMF's defaults."""
    read = SigmfMetadata.model_validate({"global": {"core:datatype": "cu8", "core:sample_rate": 1.0}})
    assert read.global_.num_channels == 1
    assert read.global_.samples is None
    assert read.center_frequency_hz is None
    assert read.capture_time is None


def test_frequency_and_time_come_from_the_first_capture():
    """The first capture says when and where in the spectrum; the time is kept as written."""
    captures = [
        {"core:frequency": 145.5e6, "core:datetime": "2026-01-01T00:00:00.123456789Z"},
        {"core:sample_start": 9, "core:frequency": 145.5e6},
    ]
    samples = [{"sample_start": 0, "sample_count": 9}]
    read = SigmfMetadata.model_validate(metadata(captures=captures, **{"heimdall:samples": samples}))
    assert read.center_frequency_hz == 145.5e6
    assert read.capture_time == "2026-01-01T00:00:00.123456789Z"


def test_a_retune_is_refused():
    """Results carry one frequency, so captures at several are several jobs."""
    captures = [{"core:frequency": 145.5e6}, {"core:sample_start": 9, "core:frequency": 433e6}]
    samples = [{"sample_start": 0, "sample_count": 9}]
    with pytest.raises(ValidationError, match="one job per frequency"):
        SigmfMetadata.model_validate(metadata(captures=captures, **{"heimdall:samples": samples}))


def test_fields_of_other_namespaces_stand_beside():
    """What the worker does not know, and nobody calls mandatory, is no error."""
    document = metadata(**{"core:author": "x", "antenna:gain": 3.0})
    document["global"]["core:extensions"] = [EXTENSION, {"name": "antenna", "version": "9", "optional": True}]
    assert SigmfMetadata.model_validate(document).global_.datatype == "cf32_le"


@pytest.mark.parametrize(
    ("field", "value"),
    [("core:dataset", "x.sigmf-data"), ("core:metadata_only", True), ("core:trailing_bytes", 4)],
)
def test_what_describes_a_file_is_refused_in_global(field, value):
    """A message is no file: fields on its layout are refused by name."""
    assert f"{field} describes a file" in refusal(metadata(**{field: value}))


def test_header_bytes_of_a_capture_are_refused():
    """A message has no bytes before its dataset."""
    assert "core:header_bytes describes a file" in refusal(metadata(captures=[{"core:header_bytes": 16}]))


@pytest.mark.parametrize("field", ["core:metadata_only", "core:trailing_bytes", "core:offset"])
def test_the_same_fields_saying_nothing_are_no_error(field):
    """A recorder that writes `false` or 0 says the same as one that writes nothing."""
    SigmfMetadata.model_validate(metadata(captures=[{"core:header_bytes": 0}], **{field: 0}))


def test_an_offset_is_refused():
    """The body is the whole dataset."""
    assert "core:offset must be 0" in refusal(metadata(**{"core:offset": 1}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"core:datatype": None}, "core:datatype"),
        ({"core:sample_rate": None}, "core:sample_rate"),
        ({"core:sample_rate": 0}, "core:sample_rate"),
        ({"core:sample_rate": -1.0}, "core:sample_rate"),
        ({"core:num_channels": 0}, "core:num_channels"),
        ({"core:num_channels": 65}, "core:num_channels"),
        ({"core:num_channels": 1.5}, "core:num_channels"),
        ({"heimdall:samples": []}, "heimdall:samples"),
        ({"heimdall:samples": [{"sample_start": -1, "sample_count": 1}]}, "sample_start"),
        ({"heimdall:samples": [{"sample_start": 0, "sample_count": 0}]}, "sample_count"),
        ({"heimdall:samples": [{"sample_start": 0, "sample_count": 1, "label": "x"}]}, "label"),
    ],
)
def test_a_wrong_field_is_named(changes, said):
    """The refusal names the field that is wrong."""
    assert said in refusal(metadata(**changes))


def test_heimdall_fields_need_their_extension_declared():
    """SigMF requires the declaration; the refusal shows it."""
    document = metadata(**{"heimdall:receivers": [{"id": "a", "geolocation": POINT}], "core:extensions": None})
    assert '"name": "heimdall"' in refusal(document)


def test_an_unknown_mandatory_extension_is_refused():
    """What a publisher calls mandatory must not be ignored."""
    assert "'antenna' is not optional" in refusal(
        metadata(**{"core:extensions": [EXTENSION, {"name": "antenna", "version": "1", "optional": False}]})
    )


@pytest.mark.parametrize(("version", "taken"), [("1.0.0", True), ("1.9", True), ("2.0.0", False), ("0.9", False)])
def test_the_extension_is_compatible_within_its_major_version(version, taken):
    """Another major version of the extension means other fields."""
    document = metadata(**{"core:extensions": [EXTENSION | {"version": version}]})
    if taken:
        SigmfMetadata.model_validate(document)
    else:
        assert "extension heimdall is version" in refusal(document)


@pytest.mark.parametrize(
    ("receivers", "said"),
    [
        ([{"id": "a", "geolocation": POINT}], "1 entries for 2 channels"),
        ([{"id": "a", "geolocation": POINT}, {"id": "a", "geolocation": POINT}], "share an id"),
        ([{"id": "", "geolocation": POINT}, {"id": "b", "geolocation": POINT}], "receivers.0.id"),
        ([{"id": "a"}, {"id": "b", "geolocation": POINT}], "receivers.0.geolocation"),
        ([{"id": "a", "geolocation": POINT, "gain": 1}, {"id": "b", "geolocation": POINT}], "gain"),
    ],
)
def test_receivers_are_one_per_channel_each_with_its_own_id(receivers, said):
    """Counts, ids and positions of the receivers are checked before anything is computed."""
    assert said in refusal(metadata(**{"core:num_channels": 2, "heimdall:receivers": receivers}))


@pytest.mark.parametrize("coordinates", [[181.0, 0.0], [0.0, 91.0], [7.6], [7.6, 45.0, 0.0, 1.0], [7.6, None]])
def test_a_place_is_a_place_on_earth(coordinates):
    """Longitude comes first, within ±180, then latitude within ±90, then perhaps altitude."""
    receivers = [{"id": "a", "geolocation": {"type": "Point", "coordinates": coordinates}}]
    assert "coordinates" in refusal(metadata(**{"heimdall:receivers": receivers}))


def test_altitude_is_zero_where_not_given():
    """RFC 7946 makes the third coordinate optional."""
    receivers = [
        {"id": "a", "geolocation": {"type": "Point", "coordinates": [7.6, 45.0]}},
        {"id": "b", "geolocation": {"type": "Point", "coordinates": [7.6, 45.0, 600.0]}},
    ]
    read = SigmfMetadata.model_validate(metadata(**{"core:num_channels": 2, "heimdall:receivers": receivers}))
    assert read.global_.receivers is not None
    places = [receiver.geolocation for receiver in read.global_.receivers]
    assert [(place.longitude, place.latitude, place.altitude_m) for place in places] == [(7.6, 45, 0), (7.6, 45, 600)]


def test_several_captures_without_samples_are_refused():
    """A retune within a recording is no single sample; the refusal says what to do."""
    assert "name the samples in heimdall:samples" in refusal(metadata(captures=[{}, {"core:sample_start": 9}]))


def test_a_capture_time_is_checked_as_an_instant():
    """A capture time that cannot be read is refused with the metadata, not at the end."""
    assert "ISO 8601" in refusal(metadata(captures=[{"core:datetime": "yesterday"}]))
