"""SigMF datasets as arrays: interleaved bytes to complex64, one row per channel.

A dataset of C channels and N samples is laid out sample by sample (SigMF specification, "Dataset Format"):

    ch0 I, ch0 Q, ch1 I, ch1 Q, …, ch(C-1) Q,  ch0 I, …

| datatype      | component             | value                             |
|---------------|-----------------------|-----------------------------------|
| cf32, cf64    | IEEE 754              | as it is, rounded to float32      |
| ci8/16/32     | two's complement      | code / 2^(bits-1): [-1, 1)        |
| cu8/16/32     | offset binary         | (code - c) / c, c = (2^bits-1)/2  |
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from schemas.sigmf import Datatype
from worker.errors import MalformedIq, NonFiniteIq

# One complex sample of one channel as a single opaque word, so that de-interleaving moves words and not components.
# The 16-byte word is a complex128 because numpy has no wider integer; it is only copied, never computed with.
_WORD: Final[dict[int, np.dtype[Any]]] = {
    2: np.dtype(np.uint16),
    4: np.dtype(np.uint32),
    8: np.dtype(np.uint64),
    16: np.dtype(np.complex128),
}


def decode(body: bytes | memoryview, datatype: Datatype, channels: int) -> npt.NDArray[np.complex64]:
    """Read an interleaved dataset.

    Integers scale to ±1 as the table of this module says; floating point is taken as it is. An empty body has no
    samples and is not an error here.

    Args:
        body: the dataset, nothing before or after it.
        datatype: of every channel.
        channels: number of channels, 1 or more.

    Returns:
        complex64 (channels, samples), C-contiguous, writable, sharing no memory with `body`.

    Raises:
        MalformedIq: the length is no multiple of one sample of all channels.
        NonFiniteIq: a component is NaN, infinite, or (cf64) beyond the range of float32.
        ValueError: fewer than one channel.
    """
    if channels < 1:
        raise ValueError(f"channels must be 1 or more, not {channels}")
    components = _deinterleave(body, datatype, channels).view(datatype.numpy_name)
    iq: npt.NDArray[np.complex64] = _to_float32(components, datatype).view(np.complex64)
    if datatype.kind == "f":
        _require_finite(iq)
    return iq


def full_scale_fraction(iq: npt.NDArray[np.complex64], datatype: Datatype) -> float:
    """Fraction of all samples with I or Q at full scale: the mark of a clipped recording.

    Full scale is the greatest code of either sign (ci16: |code| ≥ 32767; cu8: 0 and 255), 1.0 for floating point. A
    float32 cannot tell the upper 64 codes of ci32, or the outer ones of cu32, from the greatest.

    Args:
        iq: complex64 (channels, samples), C-contiguous, as `decode` returns it.
        datatype: the one it was decoded from.

    Returns:
        0.0 to 1.0 over the samples of all channels; 0.0 if there are none.
    """
    if iq.size == 0:
        return 0.0
    full_scale = _full_scale(datatype)
    components = iq.view(np.float32)
    # Most recordings do not clip, and two reductions are cheaper than a mask.
    if components.max() < full_scale and components.min() > -full_scale:
        return 0.0
    at_limit = np.abs(components) >= full_scale
    return float(np.mean(at_limit[..., 0::2] | at_limit[..., 1::2]))


def _deinterleave(body: bytes | memoryview, datatype: Datatype, channels: int) -> npt.NDArray[np.generic]:
    """Words (channels, samples) of one complex sample each, in a fresh C-contiguous array."""
    octets = memoryview(body).nbytes
    sample_bytes = datatype.sample_bytes * channels
    if octets % sample_bytes:
        raise MalformedIq(
            f"the dataset has {octets} bytes; {channels} channel(s) of {datatype.name} need a multiple of "
            f"{sample_bytes} ({octets % sample_bytes} left over)"
        )
    words = np.frombuffer(body, _WORD[datatype.sample_bytes]).reshape(-1, channels)
    return np.array(words.T, order="C", copy=True)


def _to_float32(components: npt.NDArray[np.generic], datatype: Datatype) -> npt.NDArray[np.float32]:
    """Scale components (channels, 2·samples) of a datatype; C-contiguous float32 of the same shape."""
    bits = 8 * datatype.component_bytes
    if datatype.kind == "i":
        signed = components.astype(np.float32)
        signed *= np.float32(2.0 ** (1 - bits))
        return signed
    if datatype.kind == "u":
        centre = (2**bits - 1) / 2
        # 32-bit codes near the centre are weak signals: float32 would round them away before the centre is subtracted.
        wide = np.float64 if bits > 16 else np.float32  # noqa: PLR2004 -- a float32 holds 24 bits
        unsigned: npt.NDArray[np.floating[Any]] = components.astype(wide)
        unsigned -= centre
        unsigned /= centre
        return unsigned.astype(np.float32, copy=False)
    with np.errstate(over="ignore", invalid="ignore"):  # What overflows becomes infinite and is refused as such.
        return components.astype(np.float32, copy=False)


def _require_finite(iq: npt.NDArray[np.complex64]) -> None:
    """Raise NonFiniteIq naming the first offending sample of the first offending channel."""
    finite = np.isfinite(iq.view(np.float32))
    if not finite.all():
        channel, component = np.unravel_index(int(np.argmin(finite)), finite.shape)
        sample = int(component) // 2
        raise NonFiniteIq(
            f"channel {channel}, sample {sample} is {iq[channel, sample]}; every I and Q must be a finite float32"
        )


def _full_scale(datatype: Datatype) -> np.float32:
    """Decoded magnitude of the greatest code."""
    if datatype.kind == "i":
        steps = 2 ** (8 * datatype.component_bytes - 1)
        return np.float32((steps - 1) / steps)
    return np.float32(1.0)
