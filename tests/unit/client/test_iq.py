"""Bytes and arrays of IQ."""

import logging

import numpy as np
import pytest

from client.errors import CaptureError
from client.iq import decode, encode, sample_bytes


def test_channels_are_interleaved_sample_by_sample() -> None:
    """The first sample of every channel comes first, I before Q."""
    samples = np.array([[1 + 2j, 3 + 4j], [5 + 6j, 7 + 8j]], dtype=np.complex64)
    assert np.frombuffer(encode(samples, "cf32_le"), "<f4").tolist() == [1, 2, 5, 6, 3, 4, 7, 8]


@pytest.mark.parametrize(("datatype", "gate"), [("cf32_le", 0.0), ("ci16_le", 2**-16)])
def test_what_is_encoded_is_decoded(datatype: str, gate: float) -> None:
    """Encoding and decoding are inverse within half a step."""
    random = np.random.default_rng(1)
    samples = (random.uniform(-0.9, 0.9, (3, 50)) + 1j * random.uniform(-0.9, 0.9, (3, 50))).astype(np.complex64)
    back = decode(encode(samples, datatype), datatype, 3)
    assert np.abs((back - samples).view(np.float32)).max() <= gate


@pytest.mark.parametrize(
    ("body", "datatype", "expected"),
    [
        (bytes([0, 255]), "cu8", -1 + 1j),
        (bytes([128, 127]), "ci8", -1 + 127j / 128),
        (b"\x80\x00\x40\x00", "ci16_be", -1 + 0.5j),
        (b"\x00\x80\x00\x40", "ci16_le", -1 + 0.5j),
        (np.array([0.25, -2.0], ">f8").tobytes(), "cf64_be", 0.25 - 2j),
    ],
)
def test_integers_scale_to_one(body: bytes, datatype: str, expected: complex) -> None:
    """Full scale is 1 whatever the datatype; unsigned types are centred."""
    assert decode(body, datatype, 1)[0, 0] == np.complex64(expected)


def test_clipping_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """What is beyond full scale is clipped for integers, and not in silence."""
    with caplog.at_level(logging.WARNING):
        body = encode(np.array([[2 - 3j]], dtype=np.complex64), "ci16_le")
    assert np.frombuffer(body, "<i2").tolist() == [32767, -32768]
    assert "2 values beyond full scale" in caplog.text


def test_nan_cannot_be_an_integer() -> None:
    """NaN is refused where the datatype cannot hold it."""
    with pytest.raises(CaptureError, match="NaN"):
        encode(np.array([[np.nan]], dtype=np.complex64), "ci16_le")


def test_real_samples_have_half_the_bytes() -> None:
    """Real datatypes can be measured, so that they can be passed on, but not decoded."""
    assert (sample_bytes("ri16_le"), sample_bytes("ci16_le"), sample_bytes("cu8")) == (2, 4, 2)
    with pytest.raises(CaptureError, match="real-valued"):
        decode(b"\0\0", "ri16_le", 1)


def test_unknown_datatype_names_known_ones() -> None:
    """A datatype that does not exist is answered with some that do."""
    with pytest.raises(CaptureError, match="cf32_le"):
        sample_bytes("float")
