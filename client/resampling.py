"""Resampling to any rate from any fraction of a sample on: what bringing free-running receivers together needs.

Two steps: `scipy.signal.resample_poly` by the nearest ratio of small numbers, then band-limited interpolation for
what is left of the ratio and for the fractional start. A cut at whole samples would shift a receiver by up to half
a sample, which at 12 kS/s is 12 km of path.
"""

from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from client.errors import CaptureError

MARGIN: Final = 24
"""Samples that the interpolation looks at to either side; less than these at an edge count as zero."""
_KAISER_BETA: Final = 8.6  # About 90 dB, under the noise of 14 bits.
_TAPS_PER_PHASE: Final = 32
_MAX_FACTOR: Final = 1000
_CHUNK: Final = 4096
_WHOLE: Final = 1e-6  # Samples; closer to the grid than this, interpolation would return the same single precision.


def resample(
    samples: NDArray[np.complex64],
    rate: float,
    new_rate: float,
    *,
    first: float = 0.0,
    count: int | None = None,
) -> NDArray[np.complex64]:
    """Sample a signal anew.

    Args:
        samples: (R, N), at `rate`.
        rate: hertz.
        new_rate: hertz; what lies above half of it is filtered out.
        first: where the first new sample lies, in old samples.
        count: number of new samples; default: as many as the signal holds.

    Returns:
        (R, count) complex64; sample k lies at `first / rate + k / new_rate` seconds.

    Raises:
        CaptureError: `new_rate` is under a thousandth of `rate`, or nothing is left.
    """
    ratio = _coarse_ratio(rate, new_rate)
    coarse = _by_ratio(samples, ratio)
    start = first * float(ratio)
    step = rate * float(ratio) / new_rate
    if count is None:
        count = int((coarse.shape[1] - 1 - start + _WHOLE) / step) + 1
    if count < 1:
        raise CaptureError("the recording is too short: resampling leaves no sample")
    return _at(coarse, start + step * np.arange(count, dtype=np.float64))


def _coarse_ratio(rate: float, new_rate: float) -> Fraction:
    # Of the ratio below one, so that neither number exceeds the limit.
    small = Fraction(min(rate, new_rate) / max(rate, new_rate)).limit_denominator(_MAX_FACTOR)
    if not small:
        raise CaptureError(f"cannot resample from {rate:g} to {new_rate:g} S/s: at most a factor of {_MAX_FACTOR}")
    return small if new_rate <= rate else 1 / small


def _by_ratio(samples: NDArray[np.complex64], ratio: Fraction) -> NDArray[np.complex64]:
    if ratio == 1:
        return samples
    # Takes a second to import, which a command that resamples nothing need not wait for.
    from scipy.signal import firwin, resample_poly  # noqa: PLC0415

    up, down = ratio.numerator, ratio.denominator
    widest = max(up, down)
    taps = firwin(2 * (_TAPS_PER_PHASE // 2) * widest + 1, 1 / widest, window=("kaiser", _KAISER_BETA))
    resampled: NDArray[np.complex64] = resample_poly(samples, up, down, axis=1, window=taps.astype(np.float32))
    return resampled.astype(np.complex64, copy=False)


def _at(samples: NDArray[np.complex64], positions: NDArray[np.float64]) -> NDArray[np.complex64]:
    whole = np.rint(positions)
    inside = whole[0] >= 0 and whole[-1] < samples.shape[1]
    if inside and np.abs(positions - whole).max() < _WHOLE:
        return np.ascontiguousarray(samples[:, whole.astype(np.int64)])
    padded = np.pad(samples, ((0, 0), (MARGIN, MARGIN)))
    chunks = [_interpolate(padded, positions[at : at + _CHUNK]) for at in range(0, len(positions), _CHUNK)]
    return np.concatenate(chunks, axis=1)


def _interpolate(padded: NDArray[np.complex64], positions: NDArray[np.float64]) -> NDArray[np.complex64]:
    """Windowed-sinc interpolation; `padded` carries MARGIN samples before position 0 and after the last."""
    from scipy.special import i0  # noqa: PLC0415 - see `_by_ratio`

    below = np.floor(positions)
    offsets = np.arange(1 - MARGIN, MARGIN + 1)
    distance = offsets - (positions - below)[:, np.newaxis]
    window = i0(_KAISER_BETA * np.sqrt(np.clip(1 - (distance / MARGIN) ** 2, 0, None))) / i0(_KAISER_BETA)
    weights = (np.sinc(distance) * window).astype(np.float32)
    index = np.clip(below.astype(np.int64)[:, np.newaxis] + offsets + MARGIN, 0, padded.shape[1] - 1)
    interpolated: NDArray[np.complex64] = np.einsum("rmk,mk->rm", padded[:, index], weights)
    return interpolated
