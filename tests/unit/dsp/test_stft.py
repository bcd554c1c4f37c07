import numpy as np
import pytest
import scipy.signal

from tests.unit.dsp import reference
from worker.dsp.stft import frame_power, frames_of, n_bins, periodic_window, transform_window

RNG = np.random.default_rng(20)


def noise(*shape: int) -> np.ndarray:
    """Complex noise, complex64."""
    return (RNG.standard_normal(shape) + 1j * RNG.standard_normal(shape)).astype(np.complex64)


def stft_power(x: np.ndarray, *, n_fft: int, hop: int, window: str, sides: str) -> np.ndarray:
    """Power (…, bins, frames) by the worker's two steps, bins in ascending order of frequency."""
    frames = frames_of(x, n_fft, hop)
    power = np.empty((*frames.shape[:-1], n_bins(n_fft, sides)), np.float32)
    frame_power(frames, transform_window(window, n_fft, sides), sides, power)
    return np.swapaxes(power, -1, -2)


@pytest.mark.parametrize("name", ["hann", "hamming", "blackman", "boxcar"])
def test_windows_are_scipys_periodic_ones(name):
    """Each window equals scipy's for spectral analysis (fftbins=True)."""
    np.testing.assert_allclose(periodic_window(name, 64), scipy.signal.get_window(name, 64, fftbins=True), atol=1e-15)


@pytest.mark.parametrize("name", ["hann", "hamming", "blackman", "boxcar"])
@pytest.mark.parametrize(("n_fft", "hop"), [(64, 16), (63, 20), (128, 128)])
@pytest.mark.parametrize("sides", ["one", "two"])
def test_power_agrees_with_a_float64_dft(name, n_fft, hop, sides):
    """Every bin is within 1e-6 of the greatest, for even and odd sizes."""
    x = noise(700) if sides == "two" else np.abs(noise(700))
    want = reference.stft_power(x, n_fft, hop, name, sides)
    got = stft_power(x, n_fft=n_fft, hop=hop, window=name, sides=sides)
    assert got.dtype == np.float32
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6 * want.max())


def test_leading_axes_are_signals_of_their_own():
    """(2, 3, N) gives (2, 3, bins, frames), each as computed alone."""
    x = noise(2, 3, 300)
    power = stft_power(x, n_fft=64, hop=32, window="hann", sides="two")
    alone = stft_power(x[1, 2], n_fft=64, hop=32, window="hann", sides="two")
    assert power.shape == (2, 3, 64, 1 + (300 - 64) // 32)
    np.testing.assert_allclose(power[1, 2], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("offset", [10, -10])
def test_tones_keep_the_sign_of_their_frequency(offset):
    """A tone at +f peaks above the middle bin, one at -f as far below it."""
    tone = np.exp(2j * np.pi * offset * np.arange(256) / 64).astype(np.complex64)
    power = stft_power(tone, n_fft=64, hop=32, window="hann", sides="two")
    assert (power.argmax(axis=0) == 32 + offset).all()


def test_a_tail_shorter_than_a_frame_is_left_out():
    """Frames are 1 + (N - n_fft)//hop, and the last one ends within the signal."""
    frames = frames_of(np.arange(103), 10, 4)
    assert frames.shape == (24, 10)
    assert frames[-1].tolist() == list(range(92, 102))


def test_too_short_a_signal_is_refused():
    """Fewer samples than one frame is an error that names both numbers."""
    with pytest.raises(ValueError, match=r"63 samples .* 64"):
        stft_power(noise(63), n_fft=64, hop=16, window="hann", sides="two")
