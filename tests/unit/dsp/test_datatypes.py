import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.sigmf import Datatype
from worker.dsp.datatypes import decode, full_scale_fraction
from worker.errors import MalformedIq, NonFiniteIq

NAMES = [
    *(f"c{kind}_{endian}" for kind in ("f32", "f64", "i32", "i16", "u32", "u16") for endian in ("le", "be")),
    "ci8",
    "cu8",
]
INTEGERS = [name for name in NAMES if name[1] != "f"]


def component_value(code: float, datatype: Datatype) -> float:
    """What one component is worth, in float64."""
    bits = 8 * datatype.component_bytes
    if datatype.kind == "i":
        return code / 2 ** (bits - 1)
    if datatype.kind == "u":
        return (code - (2**bits - 1) / 2) / ((2**bits - 1) / 2)
    return code


def interleave(codes: list[list[tuple[float, float]]], datatype: Datatype) -> bytes:
    """Bytes of codes[channel][sample] = (I, Q), written sample by sample."""
    flat = [part for sample in zip(*codes, strict=True) for pair in sample for part in pair]
    return np.array(flat, datatype.numpy_name).tobytes()


@st.composite
def recordings(draw: st.DrawFn):
    """A datatype with codes of some channels and samples."""
    datatype = Datatype.parse(draw(st.sampled_from(NAMES)))
    if datatype.kind == "f":
        code = st.floats(allow_nan=False, allow_infinity=False, width=32)
    else:
        limits = np.iinfo(datatype.numpy_name)
        code = st.integers(int(limits.min), int(limits.max))
    channels, samples = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    pairs = st.lists(st.tuples(code, code), min_size=samples, max_size=samples)
    return datatype, draw(st.lists(pairs, min_size=channels, max_size=channels))


@given(recordings())
def test_decode_inverts_interleaving(recording):
    """Every component of every channel comes back as its scaled code, in all datatypes and byte orders."""
    datatype, codes = recording
    iq = decode(interleave(codes, datatype), datatype, len(codes))
    want = [[[component_value(part, datatype) for part in pair] for pair in channel] for channel in codes]
    assert iq.dtype == np.complex64
    assert iq.flags.c_contiguous
    assert iq.shape == (len(codes), len(codes[0]))
    np.testing.assert_allclose(iq.view(np.float32).reshape(*iq.shape, 2), want, rtol=2e-7, atol=1e-15)


@given(recordings(), st.data())
@settings(max_examples=200)
def test_truncated_body_is_malformed_and_nothing_else(recording, data):
    """A dataset cut at any byte either holds whole samples or is refused as malformed with both lengths named."""
    datatype, codes = recording
    body = interleave(codes, datatype)
    cut = data.draw(st.integers(0, len(body) - 1))
    step = datatype.sample_bytes * len(codes)
    if cut % step == 0:
        assert decode(body[:cut], datatype, len(codes)).shape == (len(codes), cut // step)
    else:
        with pytest.raises(MalformedIq, match=rf"has {cut} bytes.* multiple of {step} "):
            decode(memoryview(body)[:cut], datatype, len(codes))


@pytest.mark.parametrize("name", INTEGERS)
def test_integer_limits_map_to_unit_range(name):
    """The least code is -1; the greatest is 1 for unsigned, and one step below for signed."""
    datatype = Datatype.parse(name)
    limits = np.iinfo(datatype.numpy_name)
    iq = decode(np.array([limits.min, limits.max], datatype.numpy_name).tobytes(), datatype, 1)
    assert iq[0, 0].real == -1.0
    assert iq[0, 0].imag == np.float32(1.0 if datatype.kind == "u" else limits.max / -float(limits.min))


def test_weak_cu32_signal_keeps_its_resolution():
    """Codes next to the centre of cu32 stay distinct although float32 cannot hold the codes themselves."""
    codes = np.array([2**31 - 1, 2**31, 2**31 + 1, 2**31 + 2], "<u4")
    iq = decode(codes.tobytes(), Datatype.parse("cu32_le"), 1)
    np.testing.assert_allclose(iq.view(np.float32)[0] * (2**31 - 0.5), [-0.5, 0.5, 1.5, 2.5], rtol=1e-6)


@pytest.mark.parametrize("name", ["cf32_le", "cf32_be", "cf64_le", "cf64_be"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_value_is_named_by_channel_and_sample(name, bad):
    """NaN or infinity in Q of channel 2, sample 3 is reported there."""
    datatype = Datatype.parse(name)
    codes = np.zeros((5, 3, 2), datatype.numpy_name)  # sample, channel, I/Q
    codes[3, 2, 1] = bad
    with pytest.raises(NonFiniteIq, match="channel 2, sample 3 "):
        decode(codes.tobytes(), datatype, 3)


def test_cf64_beyond_float32_is_non_finite():
    """A cf64 value that no float32 can hold is refused like infinity, without a warning."""
    body = np.array([0.0, 0.0, 1e39, 0.0], "<f8").tobytes()
    with np.errstate(all="raise"), pytest.raises(NonFiniteIq, match="channel 0, sample 1 "):
        decode(body, Datatype.parse("cf64_le"), 1)


@pytest.mark.parametrize("name", ["cf32_le", "ci16_le", "cu8"])
def test_decoded_array_is_its_own(name):
    """The result can be written to without touching the body it came from."""
    body = bytearray(Datatype.parse(name).sample_bytes * 4)
    iq = decode(memoryview(body), Datatype.parse(name), 1)
    iq[:] = 9
    assert not any(body)


def test_body_may_start_at_an_odd_address():
    """A view into the middle of a larger buffer decodes like a copy of it."""
    datatype = Datatype.parse("cf32_le")
    body = np.arange(12, dtype="<f4").tobytes()
    np.testing.assert_array_equal(decode(memoryview(b"x" + body)[1:], datatype, 2), decode(body, datatype, 2))


def test_fewer_than_one_channel_is_a_callers_mistake():
    """Zero channels is a ValueError, not a fault of the publisher's data."""
    with pytest.raises(ValueError, match="channels"):
        decode(b"", Datatype.parse("cu8"), 0)


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("limit", ["min", "max"])
def test_samples_at_either_limit_count_as_full_scale(name, limit):
    """One component at the greatest or least code marks its sample; both components at it mark it once."""
    datatype = Datatype.parse(name)
    limits = np.iinfo(datatype.numpy_name)
    codes = np.full((8, 2), (int(limits.min) + int(limits.max)) // 2, datatype.numpy_name)
    codes[1] = getattr(limits, limit)
    codes[6, 1] = getattr(limits, limit)
    assert full_scale_fraction(decode(codes.tobytes(), datatype, 2), datatype) == 2 / 8


@pytest.mark.parametrize("name", ["ci16_le", "ci16_be", "ci8", "cu16_le", "cu8"])
def test_one_code_below_the_limits_is_not_full_scale(name):
    """The greatest code but one, of either sign, is not clipped."""
    datatype = Datatype.parse(name)
    limits = np.iinfo(datatype.numpy_name)
    lowest = int(limits.min) + (2 if datatype.kind == "i" else 1)
    codes = np.array([int(limits.max) - 1, lowest], datatype.numpy_name)
    assert full_scale_fraction(decode(codes.tobytes(), datatype, 1), datatype) == 0.0


def test_floating_point_is_full_scale_from_one():
    """cf32 samples count from a magnitude of 1.0 in I or Q."""
    datatype = Datatype.parse("cf32_le")
    iq = decode(np.array([0.99, 0, 1, 0, 0, -1.5, 0.9, 0.9], "<f4").tobytes(), datatype, 1)
    assert full_scale_fraction(iq, datatype) == 0.5


def test_no_samples_are_not_clipped():
    """An empty recording has a fraction of zero."""
    datatype = Datatype.parse("cu8")
    assert full_scale_fraction(decode(b"", datatype, 2), datatype) == 0.0
