"""Waveforms and recordings of the simulator."""

import numpy as np
import pytest

from examples.fm_voice import fm_voice
from examples.network import NETWORKS, NORTHWEST, TORINO
from examples.propagation import draw_scenes, thermal_noise_dbm
from examples.scenes import fresh_scenes
from examples.simulator import (
    GAIN_STEP_DB,
    SAMPLE_RATE_HZ,
    at_antennas,
    automatic_full_scale_dbm,
    delayed,
    quantised,
    receive,
    shifted,
    white_noise,
)
from schemas.sigmf import Datatype, SigmfMetadata
from worker.dsp.datatypes import decode


def test_voice_has_a_constant_envelope_and_carsons_bandwidth() -> None:
    """FM: power 1 at every sample, and 98 % of it within 16 kHz."""
    signal = fm_voice(20, 4_096, SAMPLE_RATE_HZ, np.random.default_rng(1))
    power = np.abs(np.fft.fft(signal)) ** 2
    inside = np.abs(np.fft.fftfreq(4_096, 1 / SAMPLE_RATE_HZ)) <= 8_000
    assert np.allclose(np.abs(signal), 1.0)
    assert power[:, inside].sum() / power.sum() > 0.98


def test_delay_by_whole_samples_is_a_shift() -> None:
    """With the carrier at 0 Hz a delay of three samples moves the signal by three."""
    signal = white_noise((256,), np.random.default_rng(2))
    moved = delayed(signal, np.array([3 / SAMPLE_RATE_HZ]), SAMPLE_RATE_HZ, 0.0)[0]
    assert np.allclose(moved, np.roll(signal, 3))


def test_delay_of_a_fraction_is_a_phase_ramp() -> None:
    """A tone at f delayed by a third of a sample turns by -2π(f + f_c)τ."""
    frequency_hz, carrier_hz, delay_s = 16 * SAMPLE_RATE_HZ / 256, 145.5e6, 1 / (3 * SAMPLE_RATE_HZ)
    tone = np.exp(2j * np.pi * frequency_hz * np.arange(256) / SAMPLE_RATE_HZ)
    moved = delayed(tone, np.array([delay_s]), SAMPLE_RATE_HZ, carrier_hz)[0]
    assert np.allclose(moved, tone * np.exp(-2j * np.pi * (frequency_hz + carrier_hz) * delay_s), atol=1e-6)


def test_an_oscillator_that_is_off_moves_the_spectrum() -> None:
    """A constant becomes a tone at the offset."""
    moved = shifted(np.ones((1, 480), complex), np.array([1_000.0]), SAMPLE_RATE_HZ)[0]
    assert np.argmax(np.abs(np.fft.fft(moved))) == 10


def test_receivers_hear_signal_and_thermal_noise_at_their_level() -> None:
    """Far below the noise, power is kTB; far above it, the received power."""
    faint = at_antennas(TORINO, np.zeros(2), np.full(16, -200.0), np.random.default_rng(3))
    strong = at_antennas(TORINO, np.zeros(2), np.full(16, -60.0), np.random.default_rng(3))
    assert 10 * np.log10(np.mean(np.abs(faint) ** 2)) == pytest.approx(thermal_noise_dbm(SAMPLE_RATE_HZ), abs=0.1)
    assert np.allclose(10 * np.log10(np.mean(np.abs(strong) ** 2, axis=1)), -60.0, atol=0.01)


def test_distance_delays_what_is_heard() -> None:
    """The modulation arrives later by the difference in distance; one sample is 6.2 km."""
    site_m = NORTHWEST.site_positions_m[:, :2]
    heard = at_antennas(NORTHWEST, site_m[0], np.full(7, -50.0), np.random.default_rng(4))[[0, 6]]
    # Demodulated, because oscillators that differ would smear a correlation of the carriers.
    near, far = np.fft.fft(np.angle(heard[:, 1:] * np.conj(heard[:, :-1])))
    near[0] = 0.0
    lag = np.hypot(*(site_m[6] - site_m[0])) / 299_792_458.0 * SAMPLE_RATE_HZ
    assert np.argmax(np.fft.ifft(far * np.conj(near)).real[:100]) == pytest.approx(lag, abs=1.0)


def test_automatic_gain_leaves_headroom_in_steps() -> None:
    """Full scale lies 10 to 16 dB above the input, on the attenuator's grid."""
    received_dbm = np.linspace(-100, -30, 50)
    full_scale_dbm = automatic_full_scale_dbm(received_dbm)
    assert np.all((full_scale_dbm - received_dbm >= 10) & (full_scale_dbm - received_dbm < 10 + GAIN_STEP_DB))
    assert np.all(full_scale_dbm % GAIN_STEP_DB == 0)


@pytest.mark.parametrize("datatype", ["ci16_le", "ci8"])
def test_a_full_scale_tone_reads_its_stated_power(datatype: str) -> None:
    """Quantised at -30 dBm full scale, decoded by the worker, |x|² is 1: full scale."""
    tone = 10 ** (-30 / 20) * np.exp(2j * np.pi * np.arange(480) / 48)[np.newaxis]
    codes = quantised(tone, np.array([-30.0]), datatype)
    iq = decode(np.ascontiguousarray(codes[0]).tobytes(), Datatype.parse(datatype), 1)
    assert np.mean(np.abs(iq) ** 2) == pytest.approx(1.0, abs=0.02)


def test_absent_receivers_are_left_out_of_a_recording() -> None:
    """A reception holds the present receivers only."""
    scenes = draw_scenes(TORINO, 50, np.random.default_rng(5))
    index = int(np.argmin(scenes.present.sum(axis=1)))
    reception = receive(TORINO, scenes, index, np.random.default_rng(6), samples=512)
    assert len(reception.codes) == len(reception.full_scale_dbm) == scenes.present[index].sum() < 16


@pytest.mark.parametrize("name", NETWORKS)
def test_a_fresh_scene_is_a_valid_job(name: str) -> None:
    """Metadata validate as the wire's, and the body has exactly its bytes."""
    for scene in fresh_scenes(NETWORKS[name], 3, 1):
        info = SigmfMetadata.model_validate(scene.metadata).global_
        assert len(scene.body) == info.num_channels * 4_096 * Datatype.parse(info.datatype).sample_bytes
        assert all(receiver.full_scale_dbm is not None for receiver in info.receivers)


def test_the_same_seed_gives_the_same_scene() -> None:
    """Bytes and truth repeat with the seed, and differ with another."""
    first, again, other = (next(fresh_scenes(TORINO, 1, seed)) for seed in (1, 1, 2))
    assert first == again
    assert first.body != other.body
