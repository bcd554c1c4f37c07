"""IQ at measured powers: a narrow-band FM voice in white noise, each receiver at the power that it really measured.

The campaign recorded 2 MS/s x 10,000 samples, 5 ms, and kept the power in a 6 kHz filter. The same 5 ms are made here
at 100 kS/s: nothing that the filter passed is lost. What is real is the power of each receiver; the waveform is not,
and arrival times carry nothing (5 microseconds across the campus are half a sample).

One full scale holds for all receivers and jobs: 0 dB of the data set is 0 dBFS.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from examples.fm_voice import voice
from examples.powder.survey import Array

Complex = npt.NDArray[np.complex128]

SAMPLE_RATE_HZ: Final = 100_000.0
SAMPLES: Final = 500
FILTER_HZ: Final = 6_000.0
DEVIATION_HZ: Final = 2_500.0  # Of FRS and GMRS: 47 CFR 95.575 and 95.1775.
CI16_FULL_SCALE: Final = 32_768


def band_power(iq: Complex) -> Array:
    """Mean power within the 6 kHz filter about the centre (…, N) → (…)."""
    frequency_hz = np.abs(np.fft.fftfreq(iq.shape[-1], 1.0 / SAMPLE_RATE_HZ))
    # A bin on the edge lies half inside.
    inside = np.where(np.isclose(frequency_hz, FILTER_HZ / 2), 0.5, frequency_hz < FILTER_HZ / 2)
    return np.asarray((np.abs(np.fft.fft(iq)) ** 2 @ inside) / iq.shape[-1] ** 2)


def receive(power_db: Array, noise_db: Array, rng: np.random.Generator) -> Complex:
    """What the receivers record of one transmission.

    Args:
        power_db: measured in the filter, signal and noise together (R,).
        noise_db: noise floor of each receiver in the filter (R,); no more of it than was measured is put in.
        rng: source of voice, phases and noise.

    Returns:
        (R, SAMPLES), full scale 1; the power in the filter is the measured one exactly.
    """
    measured, floor = 10.0 ** (power_db / 10.0), 10.0 ** (np.minimum(noise_db, power_db) / 10.0)
    sent = np.exp(2j * np.pi * DEVIATION_HZ / SAMPLE_RATE_HZ * np.cumsum(voice(1, SAMPLES, SAMPLE_RATE_HZ, rng)))
    sent = sent / np.sqrt(band_power(sent))
    phase = np.exp(2j * np.pi * rng.random((power_db.size, 1)))
    noise = rng.standard_normal((power_db.size, SAMPLES, 2)) @ np.array([1.0, 1.0j]) / np.sqrt(2.0)
    # White over the whole rate: the filter passes its share.
    noise *= np.sqrt(floor * SAMPLE_RATE_HZ / FILTER_HZ)[:, np.newaxis]
    heard = np.sqrt(measured - floor)[:, np.newaxis] * phase * sent + noise
    return np.asarray(heard * np.sqrt(measured / band_power(heard))[:, np.newaxis])


def as_ci16(iq: Complex) -> bytes:
    """The dataset as SigMF interleaves it: sample by sample, each channel's I then Q, `ci16_le`."""
    levels = np.rint(np.stack([iq.real, iq.imag], axis=-1).swapaxes(0, 1) * CI16_FULL_SCALE)
    return np.clip(levels, -CI16_FULL_SCALE, CI16_FULL_SCALE - 1).astype("<i2").tobytes()
