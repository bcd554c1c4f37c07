"""Scalar features of each receiver: how strong, over what noise, and where in the band.

With X the DFT of the N samples of one receiver and P = |X|²/N (so that the mean of P is the mean of |x|²):

| feature        | formula                                                       |
|----------------|---------------------------------------------------------------|
| snr_db         | 10·lg(mean |x|² / median of the lowest 30 % of P)             |
| psd_dbm_hz     | 10·lg(max P / fs) + 30, taking full scale as 1 W              |
| freq_offset_hz | signed frequency of the greatest P                            |

Noise alone reads +7.9 dB of "snr": P is then exponentially distributed, and the median of its lowest 30 %, its 15th
percentile, is -ln 0.85 = 0.1625 of its mean.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import scipy.fft

_NOISE_FRACTION: Final = 0.3
# Keeps logarithms finite for silence: 300 dB below full scale, far under the quantisation noise of any datatype.
_POWER_FLOOR: Final = 1e-30
_DBM_PER_DBW: Final = 30.0


@dataclass(frozen=True, slots=True)
class ReceiverFeatures:
    """Features of R receivers, each float64 (R,).

    Attributes:
        snr_db: mean power over the noise floor.
        psd_dbm_hz: peak power spectral density.
        freq_offset_hz: of the peak, from the centre frequency; -fs/2 to fs/2.
    """

    snr_db: npt.NDArray[np.float64]
    psd_dbm_hz: npt.NDArray[np.float64]
    freq_offset_hz: npt.NDArray[np.float64]


def receiver_features(iq: npt.NDArray[np.complex64], sample_rate_hz: float) -> ReceiverFeatures:
    """Features by the formulas of this module.

    Powers below 1e-30 count as 1e-30, so silence has finite features: 0 dB, a very low density, 0 Hz.

    Args:
        iq: complex64 (R, N), N at least 1.
        sample_rate_hz: true rate of the samples.

    Raises:
        ValueError: no samples.
    """
    n_samples = iq.shape[-1]
    if n_samples == 0:
        raise ValueError("receiver features need at least one sample")
    power = np.square(np.abs(scipy.fft.fft(iq, axis=-1)))
    power /= n_samples
    peak = np.argmax(power, axis=-1)
    return ReceiverFeatures(
        snr_db=_decibel(mean_power(iq)) - _decibel(_noise_power(power)),
        psd_dbm_hz=_decibel(power.max(axis=-1)) - 10.0 * np.log10(sample_rate_hz) + _DBM_PER_DBW,
        freq_offset_hz=scipy.fft.fftfreq(n_samples, 1.0 / sample_rate_hz)[peak],
    )


def mean_power(iq: npt.NDArray[np.complex64]) -> npt.NDArray[np.float64]:
    """Mean of |x|² of each receiver, float64 (R,) from complex64 (R, N): what the strongest are chosen by."""
    mean: npt.NDArray[np.float64] = np.mean(np.square(np.abs(iq)), axis=-1, dtype=np.float64)
    return mean


def _noise_power(power: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Median of the lowest 30 % of each row, float32 (R,)."""
    lowest = max(1, int(_NOISE_FRACTION * power.shape[-1]))
    middle = lowest // 2
    # One order statistic in place of a sort; numpy partitions about two of them ten times more slowly.
    partitioned = np.partition(power, middle, axis=-1)
    upper: npt.NDArray[np.float32] = partitioned[:, middle]
    if lowest % 2:
        return upper
    lower: npt.NDArray[np.float32] = partitioned[:, :middle].max(axis=-1)
    return (lower + upper) / np.float32(2.0)


def _decibel(power: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    return 10.0 * np.log10(np.maximum(power.astype(np.float64), _POWER_FLOOR))
