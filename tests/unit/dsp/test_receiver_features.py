import numpy as np
import pytest

from worker.dsp.receiver_features import mean_power, receiver_features

RATE_HZ = 50_000.0


def complex_noise(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Complex noise of unit power, complex128."""
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)


@pytest.mark.parametrize("samples", [10_000, 8192, 1001, 7, 1])
def test_features_follow_the_formulas(samples):
    """All three agree with the formulas written out in float64 with a sort."""
    rng = np.random.default_rng(samples)
    iq = (complex_noise(rng, 4, samples) * [[1], [1e-1], [1e-2], [1e-3]]).astype(np.complex64)
    got = receiver_features(iq, RATE_HZ)
    for r, x in enumerate(iq.astype(np.complex128)):
        power = np.abs(np.fft.fft(x)) ** 2 / samples
        noise = np.median(np.sort(power)[: max(1, int(0.3 * samples))])
        assert got.snr_db[r] == pytest.approx(10 * np.log10(np.mean(np.abs(x) ** 2) / noise), abs=1e-3)
        assert got.psd_dbm_hz[r] == pytest.approx(10 * np.log10(power.max() / RATE_HZ) + 30, abs=1e-4)
        assert got.freq_offset_hz[r] == np.fft.fftfreq(samples, 1 / RATE_HZ)[power.argmax()]


def test_noise_alone_reads_seven_point_nine_decibel():
    """The formula's bias: pure noise is no 0 dB."""
    snr_db = receiver_features(complex_noise(np.random.default_rng(1), 20, 10_000).astype(np.complex64), RATE_HZ).snr_db
    assert snr_db.mean() == pytest.approx(-10 * np.log10(-np.log(0.85)), abs=0.1)


@pytest.mark.parametrize("offset_hz", [12_500.0, -12_500.0, 0.0])
def test_a_full_scale_tone_has_its_offset_and_power(offset_hz):
    """A tone at full scale is found at its signed offset, and its whole power stands in one bin of fs/N."""
    tone = np.exp(2j * np.pi * offset_hz / RATE_HZ * np.arange(1000)).astype(np.complex64)[None]
    features = receiver_features(tone, RATE_HZ)
    assert features.freq_offset_hz[0] == offset_hz
    assert features.psd_dbm_hz[0] == pytest.approx(10 * np.log10(1000 / RATE_HZ) + 30, abs=1e-4)


def test_silence_has_finite_features():
    """All-zero samples give 0 dB, no offset and a very low density instead of infinities."""
    with np.errstate(all="raise"):
        features = receiver_features(np.zeros((2, 64), np.complex64), RATE_HZ)
    assert features.snr_db.tolist() == [0.0, 0.0]
    assert features.freq_offset_hz.tolist() == [0.0, 0.0]
    assert (features.psd_dbm_hz < -250).all()
    assert np.isfinite(features.psd_dbm_hz).all()


def test_a_constant_has_finite_features():
    """A signal whose noise floor is exactly zero has a large, finite ratio."""
    features = receiver_features(np.ones((1, 64), np.complex64), RATE_HZ)
    assert np.isfinite(features.snr_db[0])
    assert features.snr_db[0] > 100


def test_no_samples_are_refused():
    """There is no feature of nothing."""
    with pytest.raises(ValueError, match="at least one sample"):
        receiver_features(np.zeros((2, 0), np.complex64), RATE_HZ)


def test_mean_power_ranks_receivers():
    """Mean power is that of |x|², receiver by receiver."""
    iq = np.array([[3 + 4j, 0], [1, 1j], [0, 0]], np.complex64)
    assert mean_power(iq).tolist() == [12.5, 1.0, 0.0]
