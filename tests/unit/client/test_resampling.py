"""Resampling against tones whose value at every instant is known."""

import numpy as np
import pytest

from client.errors import CaptureError
from client.resampling import resample


def tone(cycles_per_s: float, times_s: np.ndarray) -> np.ndarray:
    """A complex tone, (1, N)."""
    return np.exp(2j * np.pi * cycles_per_s * times_s)[np.newaxis].astype(np.complex64)


@pytest.mark.parametrize(
    ("rate", "new_rate", "first"),
    [
        (12001.0842, 12001.0256, 100.37),
        (12001.08, 12000.0, 5.5),
        (2.4e6, 48e3, 0.0),
        (240e3, 50001.0, 17.3),
        (48e3, 50e3, 3.25),
        (50e3, 50e3, 7.5),
    ],
)
@pytest.mark.parametrize("share", [-0.8, 0.1, 0.8])
def test_tone_stays_in_place(rate: float, new_rate: float, first: float, share: float) -> None:
    """Up to 80 % of the band the new samples are the tone at their instants within -80 dB."""
    cycles_per_s = share * min(rate, new_rate) / 2
    resampled = resample(tone(cycles_per_s, np.arange(60_000) / rate), rate, new_rate, first=first)
    instants = first / rate + np.arange(resampled.shape[1]) / new_rate
    error = (resampled - tone(cycles_per_s, instants))[0, 60:-60]
    assert 20 * np.log10(np.abs(error).max()) < -80


def test_no_alias_is_left() -> None:
    """What the new rate cannot carry is gone."""
    resampled = resample(tone(40e3, np.arange(50_000) / 240e3), 240e3, 50e3)
    assert np.abs(resampled[0, 60:-60]).max() < 1e-3


def test_whole_samples_at_the_same_rate_are_the_same_bits() -> None:
    """Nothing is interpolated where nothing needs to be."""
    samples = tone(1e3, np.arange(100) / 50e3)
    assert np.array_equal(resample(samples, 50e3, 50e3, first=10, count=20), samples[:, 10:30])


def test_length_follows_the_rate() -> None:
    """As many samples as the old ones span."""
    assert resample(np.ones((2, 1000), np.complex64), 50e3, 25e3).shape == (2, 500)


@pytest.mark.parametrize("new_rate", [1.0, 1e9])
def test_absurd_rates_are_refused(new_rate: float) -> None:
    """A slip of the unit is an error and no hour of computing."""
    with pytest.raises(CaptureError, match="cannot resample"):
        resample(np.ones((1, 100), np.complex64), 50e3, new_rate)
