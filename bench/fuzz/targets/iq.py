"""IQ bodies of every datatype and number of channels.

Input: one byte for the datatype, one for the number of channels, then the dataset. A dataset says nowhere how long it
is: cut after a whole sample of all channels, it is a shorter valid recording; cut elsewhere, it is an error.
"""

import struct
from random import Random
from typing import Final

import numpy as np

from bench.fuzz.mutations import spoil_bytes
from bench.fuzz.target import REFUSED, TAKEN, Target
from schemas.sigmf import MAX_CHANNELS, Datatype
from worker.dsp.datatypes import decode, full_scale_fraction
from worker.errors import MalformedIq, NonFiniteIq

_WIDE: Final = [
    f"c{number}_{endian}" for number in ("f32", "f64", "i16", "i32", "u16", "u32") for endian in ("le", "be")
]
DATATYPES: Final = tuple(Datatype.parse(name) for name in [*_WIDE, "ci8", "cu8"])
_HEADER: Final = 2
_MAX_SAMPLES: Final = 64
_ODD_FLOATS: Final = (float("nan"), float("inf"), float("-inf"), 1e39, -1e308, 5e-324, 1e-45, -0.0)


def valid(rng: Random) -> bytes:
    """A dataset of a random datatype, number of channels and length."""
    code, channels = rng.randrange(len(DATATYPES)), rng.randrange(1, 9)
    datatype = DATATYPES[code]
    components = 2 * channels * rng.randrange(1, _MAX_SAMPLES)
    if datatype.kind != "f":
        return bytes([code, channels - 1]) + rng.randbytes(components * datatype.component_bytes)
    values = [rng.uniform(-1.0, 1.0) for _ in range(components)]
    return bytes([code, channels - 1]) + _packed(datatype, values)


def make(rng: Random) -> bytes:
    """Sound, with odd numbers in it, with odd bytes in it, or nothing but noise."""
    match rng.randrange(5):
        case 0:
            return rng.randbytes(rng.randrange(200))
        case 1:
            return spoil_bytes(rng, valid(rng))
        case 2:
            return _with_odd_number(rng, valid(rng))
        case _:
            return valid(rng)


def run(data: bytes) -> str:
    """Decode; what is decoded has the shape it must have, is finite, and integers stay within full scale."""
    if len(data) < _HEADER:
        return REFUSED
    datatype, channels = DATATYPES[data[0] % len(DATATYPES)], data[1] % MAX_CHANNELS + 1
    body = memoryview(data)[_HEADER:]
    try:
        samples = decode(body, datatype, channels)
    except (MalformedIq, NonFiniteIq):
        return REFUSED
    assert samples.shape == (channels, len(body) // (datatype.sample_bytes * channels)), samples.shape
    assert samples.dtype == np.complex64
    assert samples.flags.c_contiguous
    assert np.isfinite(samples).all()
    assert 0.0 <= full_scale_fraction(samples, datatype) <= 1.0
    if datatype.kind != "f" and samples.size:
        assert np.abs(samples.view(np.float32)).max() <= 1.0
    return TAKEN


def frame_bytes(data: bytes) -> int:
    """Bytes of one sample of all channels of an input."""
    return DATATYPES[data[0] % len(DATATYPES)].sample_bytes * (data[1] % MAX_CHANNELS + 1)


def _with_odd_number(rng: Random, data: bytes) -> bytes:
    datatype = DATATYPES[data[0]]
    if datatype.kind != "f":
        return data
    size = datatype.component_bytes
    place = _HEADER + size * rng.randrange((len(data) - _HEADER) // size)
    odd = rng.choice(_ODD_FLOATS)
    if size == 4 and abs(odd) > 3.4e38:
        odd = float("inf")
    return data[:place] + _packed(datatype, [odd]) + data[place + size :]


def _packed(datatype: Datatype, values: list[float]) -> bytes:
    return struct.pack(f"{datatype.endian}{len(values)}{'f' if datatype.component_bytes == 4 else 'd'}", *values)


TARGET: Final = Target("iq", valid, make, run)
