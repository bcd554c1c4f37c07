"""Narrow-band FM carrying a voice-like signal, as complex baseband of power 1.

The audio is noise shaped by a pitch comb, three formants and the telephone band of 300 to 3,000 Hz: enough to give the
modulation spectrum of speech. Peak deviation is 2.5 or 5 kHz (ETSI EN 300 086: 12.5 and 25 kHz channels), so nearly
all power stays within Carson's bandwidth 2·(5 + 3) = 16 kHz.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from examples.network import Array

VOICE_BAND_HZ: Final = (300.0, 3_000.0)
# Typical formants of an open vowel (Peterson and Barney, 1952), varied from scene to scene.
FORMANTS_HZ: Final = (570.0, 1_400.0, 2_500.0)
FORMANT_WIDTH_HZ: Final = 180.0
FORMANT_SPREAD: Final = 0.15
PITCH_HZ: Final = (90.0, 240.0)
DEVIATIONS_HZ: Final = (2_500.0, 5_000.0)
# Speech peaks at about four times its rms; a transmitter's limiter clips what is above.
PEAK_TO_RMS: Final = 4.0


def voice_spectrum(frequency_hz: Array, count: int, rng: np.random.Generator) -> Array:
    """Amplitude of voice-like audio at each frequency, not scaled (count, frequencies)."""
    formants = np.array(FORMANTS_HZ) * (1.0 + FORMANT_SPREAD * rng.uniform(-1.0, 1.0, (count, 3)))
    offset = (frequency_hz - formants[..., np.newaxis]) / FORMANT_WIDTH_HZ
    resonances = (1.0 / (1.0 + offset**2)).sum(axis=1)
    pitch_hz = rng.uniform(*PITCH_HZ, (count, 1))
    comb = 0.3 + np.cos(np.pi * frequency_hz / pitch_hz) ** 8
    low, high = VOICE_BAND_HZ
    return np.asarray(resonances * comb * ((frequency_hz >= low) & (frequency_hz <= high)))


def voice(count: int, samples: int, sample_rate_hz: float, rng: np.random.Generator) -> Array:
    """Voice-like audio within ±1 (count, samples)."""
    frequency_hz = np.asarray(np.fft.rfftfreq(samples, 1.0 / sample_rate_hz), np.float64)
    noise = rng.standard_normal((count, frequency_hz.size, 2)) @ np.array([1.0, 1.0j])
    audio = np.fft.irfft(noise * voice_spectrum(frequency_hz, count, rng), samples, axis=-1)
    audio /= PEAK_TO_RMS * np.sqrt(np.mean(audio**2, axis=-1, keepdims=True))
    return np.clip(audio, -1.0, 1.0)


def fm_voice(count: int, samples: int, sample_rate_hz: float, rng: np.random.Generator) -> npt.NDArray[np.complex128]:
    """Transmissions of power 1: constant envelope, random phase and deviation (count, samples)."""
    deviation_hz = rng.choice(DEVIATIONS_HZ, (count, 1))
    frequency_hz = deviation_hz * voice(count, samples, sample_rate_hz, rng)
    phase = 2.0 * np.pi * np.cumsum(frequency_hz, axis=-1) / sample_rate_hz
    return np.asarray(np.exp(1j * (phase + rng.uniform(0.0, 2.0 * np.pi, (count, 1)))))
