"""From a scene to what its receivers record: complex baseband, quantised as a receiver would.

Each receiver hears the same transmission, delayed by its distance (carrier phase included), through its own clock and
oscillator, with its own thermal noise and gain.
"""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from examples.fm_voice import fm_voice
from examples.network import Array, Network
from examples.propagation import SPEED_OF_LIGHT_M_S, Scenes, distances_m, thermal_noise_dbm

SAMPLE_RATE_HZ: Final = 48_000.0
SAMPLES: Final = 4_096
# Samples before and after those that are kept: a delay by phase ramp is circular, and must not wrap into them.
GUARD_SAMPLES: Final = 128

# Receivers disciplined by satellite time, and a transmitter on a temperature-compensated crystal.
CLOCK_SIGMA_S: Final = 100e-9
RECEIVER_SIGMA_PPM: Final = 0.1
TRANSMITTER_SIGMA_PPM: Final = 1.0
# What is left of a receiver's gain after its calibration.
GAIN_ERROR_SIGMA_DB: Final = 0.3

# Automatic gain: steps of a switched attenuator that keep the input this far below full scale.
GAIN_STEP_DB: Final = 6.0
HEADROOM_DB: Final = 10.0
LEAST_FULL_SCALE_DBM: Final = -96.0

Datatype = Literal["ci16_le", "ci8"]
_FULL_SCALE: Final[dict[Datatype, tuple[int, str]]] = {"ci16_le": (32_768, "<i2"), "ci8": (128, "i1")}
Complex = npt.NDArray[np.complex128]


@dataclass(frozen=True, slots=True)
class Reception:
    """What the receivers of one scene recorded.

    Attributes:
        codes: integer I and Q of every present receiver (R, samples, 2).
        full_scale_dbm: power at each antenna that a full-scale tone stands for (R,).
        present: which of the network's receivers these are (all R of the network).
    """

    codes: npt.NDArray[np.signedinteger[npt.NBitBase]]
    full_scale_dbm: Array
    present: npt.NDArray[np.bool_]


def delayed(signal: Complex, delay_s: Array, sample_rate_hz: float, carrier_hz: float) -> Complex:
    """Delay a baseband signal by any fraction of a sample, circularly, one row per delay.

    A delay τ multiplies the spectrum by exp(-2πjfτ) and turns the carrier's phase by -2π·f_c·τ (Oppenheim and Schafer,
    Discrete-Time Signal Processing, section 4.5).

    Args:
        signal: (samples,).
        delay_s: (R,).
        sample_rate_hz: of the signal.
        carrier_hz: the frequency that was mixed to zero.

    Returns:
        (R, samples).
    """
    frequency_hz = np.fft.fftfreq(signal.size, 1.0 / sample_rate_hz)
    turns = (frequency_hz + carrier_hz) * delay_s[:, np.newaxis]
    return np.fft.ifft(np.fft.fft(signal) * np.exp(-2j * np.pi * turns), axis=-1)


def shifted(signal: Complex, offset_hz: Array, sample_rate_hz: float) -> Complex:
    """Shift each row in frequency: an oscillator that is off by offset_hz (R,)."""
    seconds = np.arange(signal.shape[-1]) / sample_rate_hz
    return np.asarray(signal * np.exp(2j * np.pi * offset_hz[:, np.newaxis] * seconds))


def white_noise(shape: tuple[int, ...], rng: np.random.Generator) -> Complex:
    """Circular complex Gaussian noise of power 1."""
    return np.asarray(rng.standard_normal((*shape, 2)).view(np.complex128)[..., 0] * np.sqrt(0.5))


def automatic_full_scale_dbm(received_dbm: Array) -> Array:
    """Full scale that automatic gain control settles at, dBm: the attenuator step above input plus headroom."""
    wanted = np.ceil((received_dbm + HEADROOM_DB) / GAIN_STEP_DB) * GAIN_STEP_DB
    return np.maximum(wanted, LEAST_FULL_SCALE_DBM)


def quantised(
    antenna: Complex, full_scale_dbm: Array, datatype: Datatype
) -> npt.NDArray[np.signedinteger[npt.NBitBase]]:
    """Integer codes (R, samples, 2) of signals at the antenna whose |x|² is in mW."""
    scale, dtype = _FULL_SCALE[datatype]
    relative = antenna * 10.0 ** (-full_scale_dbm[:, np.newaxis] / 20.0)
    codes = np.rint(np.stack([relative.real, relative.imag], axis=-1) * scale)
    return np.clip(codes, 1 - scale, scale - 1).astype(dtype)


def at_antennas(
    network: Network, truth_m: Array, received_dbm: Array, rng: np.random.Generator, samples: int = SAMPLES
) -> Complex:
    """Signal and noise at every receiver of a network, |x|² in mW (R, samples).

    Args:
        network: its receivers.
        truth_m: east and north of the transmitter (2,).
        received_dbm: power at each antenna (R,).
        rng: source of the waveform, the clocks and the noise.
        samples: how many are recorded.
    """
    receivers = len(network.sites)
    sent = fm_voice(1, samples + 2 * GUARD_SAMPLES, SAMPLE_RATE_HZ, rng)[0]
    delay_s = distances_m(network, truth_m[np.newaxis])[0] / SPEED_OF_LIGHT_M_S
    delay_s += CLOCK_SIGMA_S * rng.standard_normal(receivers)
    heard = delayed(sent, delay_s, SAMPLE_RATE_HZ, network.frequency_hz)[:, GUARD_SAMPLES:-GUARD_SAMPLES]
    ppm = TRANSMITTER_SIGMA_PPM * rng.standard_normal() + RECEIVER_SIGMA_PPM * rng.standard_normal(receivers)
    heard = shifted(heard, ppm * 1e-6 * network.frequency_hz, SAMPLE_RATE_HZ)
    noise_mw = 10.0 ** (thermal_noise_dbm(SAMPLE_RATE_HZ) / 10.0)
    amplitude = 10.0 ** (received_dbm[:, np.newaxis] / 20.0)
    return np.asarray(amplitude * heard + np.sqrt(noise_mw) * white_noise(heard.shape, rng))


def receive(
    network: Network,
    scenes: Scenes,
    index: int,
    rng: np.random.Generator,
    *,
    datatype: Datatype = "ci16_le",
    samples: int = SAMPLES,
) -> Reception:
    """Record one of the scenes with the receivers that are present."""
    present = scenes.present[index]
    received_dbm = scenes.received_dbm[index]
    antenna = at_antennas(network, scenes.truth_m[index], received_dbm, rng, samples)
    full_scale_dbm = automatic_full_scale_dbm(received_dbm)
    gain_error_db = GAIN_ERROR_SIGMA_DB * rng.standard_normal(received_dbm.shape)
    amplified = antenna * 10.0 ** (gain_error_db[:, np.newaxis] / 20.0)
    return Reception(quantised(amplified[present], full_scale_dbm[present], datatype), full_scale_dbm[present], present)
