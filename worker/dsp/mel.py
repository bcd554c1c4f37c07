"""Mel filterbanks: triangles equally spaced on a perceptual or linear frequency scale, for real and complex signals.

On two-sided spectra a scale is extended as an odd function, mel(-f) = -mel(f), so that bands above and below the centre
frequency mirror each other.
"""

from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from worker.dsp.stft import Sides

MelScale = Literal["htk", "slaney", "linear"]
FilterNorm = Literal["slaney", "none"]

# Slaney, Auditory Toolbox (1998): linear up to 1 kHz, then 27 steps per factor 6.4.
_SLANEY_LINEAR_HZ_PER_MEL: Final = 200.0 / 3.0
_SLANEY_BREAK_HZ: Final = 1000.0
_SLANEY_BREAK_MEL: Final = _SLANEY_BREAK_HZ / _SLANEY_LINEAR_HZ_PER_MEL
_SLANEY_LOG_STEP: Final = np.log(6.4) / 27.0
# HTK Book, section 5.4: mel = 2595·lg(1 + f/700).
_HTK_MEL: Final = 2595.0
_HTK_HZ: Final = 700.0


def hz_to_mel(frequency_hz: npt.ArrayLike, scale: MelScale) -> npt.NDArray[np.float64]:
    """Frequencies on a mel scale, float64 of the same shape; odd about zero."""
    signed = np.asarray(frequency_hz, np.float64)
    hz = np.abs(signed)
    if scale == "linear":
        return signed.copy()
    if scale == "htk":
        mel = _HTK_MEL * np.log10(1.0 + hz / _HTK_HZ)
    else:
        above = _SLANEY_BREAK_MEL + np.log(np.maximum(hz, _SLANEY_BREAK_HZ) / _SLANEY_BREAK_HZ) / _SLANEY_LOG_STEP
        mel = np.where(hz < _SLANEY_BREAK_HZ, hz / _SLANEY_LINEAR_HZ_PER_MEL, above)
    return np.copysign(mel, signed)


def mel_to_hz(mel: npt.ArrayLike, scale: MelScale) -> npt.NDArray[np.float64]:
    """The inverse of `hz_to_mel`."""
    signed = np.asarray(mel, np.float64)
    magnitude = np.abs(signed)
    if scale == "linear":
        return signed.copy()
    if scale == "htk":
        hz = _HTK_HZ * (10.0 ** (magnitude / _HTK_MEL) - 1.0)
    else:
        above = _SLANEY_BREAK_HZ * np.exp(_SLANEY_LOG_STEP * np.maximum(magnitude - _SLANEY_BREAK_MEL, 0.0))
        hz = np.where(magnitude < _SLANEY_BREAK_MEL, magnitude * _SLANEY_LINEAR_HZ_PER_MEL, above)
    return np.copysign(hz, signed)


def mel_filterbank(
    *,
    sample_rate_hz: float,
    n_fft: int,
    n_mels: int,
    fmin_hz: float,
    fmax_hz: float,
    scale: MelScale,
    norm: FilterNorm,
    sides: Sides,
) -> npt.NDArray[np.float32]:
    """Triangular filters with their corners equally spaced on the scale (as librosa.filters.mel).

    Args:
        sample_rate_hz: of the signal, or the nominal one a model was trained with.
        n_fft: points of the DFT.
        n_mels: number of filters.
        fmin_hz: lower corner of the first filter; may be negative on two sides.
        fmax_hz: upper corner of the last filter.
        scale: `htk`, `slaney`, or `linear` in Hz.
        norm: `slaney` makes the area of each triangle 1 (weights in 1/Hz); `none` leaves its peak at 1.
        sides: `one` for bins 0 … fs/2, `two` for bins -fs/2 … +fs/2 in ascending order.

    Returns:
        float32 (n_mels, bins), built in float64.

    Raises:
        ValueError: the band is empty or beyond ±fs/2, or a filter falls between two bins and would be all zero.
    """
    _check_band(sample_rate_hz, n_mels, fmin_hz, fmax_hz, sides)
    bins_hz = bin_frequencies_hz(sample_rate_hz, n_fft, sides)
    corners_mel = np.linspace(hz_to_mel(fmin_hz, scale), hz_to_mel(fmax_hz, scale), n_mels + 2)
    corners_hz = mel_to_hz(corners_mel, scale)[:, np.newaxis]
    lower, peak, upper = corners_hz[:-2], corners_hz[1:-1], corners_hz[2:]
    weights = np.maximum(0.0, np.minimum((bins_hz - lower) / (peak - lower), (upper - bins_hz) / (upper - peak)))
    if norm == "slaney":
        weights *= 2.0 / (upper - lower)
    _refuse_empty(weights, sample_rate_hz / n_fft)
    return weights.astype(np.float32)


def bin_frequencies_hz(sample_rate_hz: float, n_fft: int, sides: Sides) -> npt.NDArray[np.float64]:
    """Centre frequency of each bin, ascending, float64 (bins,); on two sides bin n_fft//2 is 0 Hz."""
    if sides == "one":
        return np.arange(n_fft // 2 + 1, dtype=np.float64) * (sample_rate_hz / n_fft)
    return (np.arange(n_fft, dtype=np.float64) - n_fft // 2) * (sample_rate_hz / n_fft)


def _check_band(sample_rate_hz: float, n_mels: int, fmin_hz: float, fmax_hz: float, sides: Sides) -> None:
    lowest_hz = 0.0 if sides == "one" else -sample_rate_hz / 2
    if n_mels < 1:
        raise ValueError(f"n_mels must be 1 or more, not {n_mels}")
    if not lowest_hz <= fmin_hz < fmax_hz <= sample_rate_hz / 2:
        raise ValueError(
            f"the band {fmin_hz:g} to {fmax_hz:g} Hz must ascend and lie within {lowest_hz:g} to "
            f"{sample_rate_hz / 2:g} Hz (sides {sides!r}, sample rate {sample_rate_hz:g} Hz)"
        )


def _refuse_empty(weights: npt.NDArray[np.float64], bin_width_hz: float) -> None:
    empty = np.flatnonzero(~weights.any(axis=1))
    if empty.size:
        shown = ", ".join(map(str, empty[:8])) + (", …" if empty.size > 8 else "")  # noqa: PLR2004 -- enough to see which
        raise ValueError(
            f"{empty.size} of {len(weights)} mel filters hold no frequency bin (filters {shown}; bins are "
            f"{bin_width_hz:g} Hz apart): take fewer mels, a larger n_fft, the linear scale, or a lower "
            "nominal sample rate"
        )
