import numpy as np
import pytest

from worker.dsp.filterbank import Filterbank
from worker.dsp.mel import mel_filterbank

RNG = np.random.default_rng(3)


def triangles(n_mels: int, sides: str, scale: str = "linear") -> np.ndarray:
    """A filterbank of triangles over the whole band of 48 kHz."""
    return mel_filterbank(
        sample_rate_hz=48_000,
        n_fft=1024,
        n_mels=n_mels,
        fmin_hz=0.0 if sides == "one" else -24_000.0,
        fmax_hz=24_000.0,
        scale=scale,
        norm="none",
        sides=sides,
    )


@pytest.mark.parametrize("n_mels", [1, 15, 16, 17, 31, 64])
@pytest.mark.parametrize(("sides", "scale"), [("one", "htk"), ("one", "linear"), ("two", "linear")])
def test_it_is_the_product_with_all_weights(n_mels, sides, scale):
    """Numbers of filters that are no multiple of a product's are summed over all their bins too."""
    weights = triangles(n_mels, sides, scale)
    power = RNG.random((2, 5, weights.shape[1]), np.float32)
    out = np.full((2, 5, n_mels), np.nan, np.float32)
    Filterbank(weights)(power, out)
    want = power.astype(np.float64) @ weights.T.astype(np.float64)
    np.testing.assert_allclose(out, want, rtol=1e-6)


def test_filters_in_any_order_and_with_gaps_are_summed():
    """Filters whose bins lie far apart, or descend, cost more, and give the same."""
    weights = RNG.random((40, 200)).astype(np.float32) * (RNG.random((40, 200)) < 0.02)
    weights[:, 100] = 1.0
    power = RNG.random((3, 200), np.float32)
    out = np.empty((3, 40), np.float32)
    Filterbank(weights)(power, out)
    np.testing.assert_allclose(out, power.astype(np.float64) @ weights.T.astype(np.float64), rtol=1e-6)


def test_filters_that_hold_nothing_sum_to_zero():
    """Weights that a power scale made too small for float32 are no crash."""
    out = np.full((3, 20), np.nan, np.float32)
    Filterbank(np.zeros((20, 64), np.float32))(RNG.random((3, 64), np.float32), out)
    assert not out.any()


def test_the_bits_of_a_signal_do_not_depend_on_those_beside_it():
    """Of eight signals each has the sums that it has alone."""
    filterbank = Filterbank(triangles(64, "two"))
    power = RNG.random((8, 11, 1024), np.float32)
    together, alone = np.empty((8, 11, 64), np.float32), np.empty((1, 11, 64), np.float32)
    filterbank(power, together)
    for signal in range(8):
        filterbank(power[signal : signal + 1], alone)
        assert alone[0].tobytes() == together[signal].tobytes()
