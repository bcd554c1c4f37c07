import librosa
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.dsp.mel import bin_frequencies_hz, hz_to_mel, mel_filterbank, mel_to_hz

SCALES = ["htk", "slaney", "linear"]


@pytest.mark.parametrize("scale", ["htk", "slaney"])
@pytest.mark.parametrize("norm", ["slaney", "none"])
@pytest.mark.parametrize(("n_fft", "n_mels", "band_hz"), [(2048, 128, (0, 24_000)), (1024, 40, (300, 9_000))])
def test_one_sided_filters_are_librosas(scale, norm, n_fft, n_mels, band_hz):
    """Weights agree with librosa.filters.mel on both scales and norms."""
    ours = mel_filterbank(
        sample_rate_hz=48_000,
        n_fft=n_fft,
        n_mels=n_mels,
        fmin_hz=band_hz[0],
        fmax_hz=band_hz[1],
        scale=scale,
        norm=norm,
        sides="one",
    )
    theirs = librosa.filters.mel(
        sr=48_000,
        n_fft=n_fft,
        n_mels=n_mels,
        fmin=band_hz[0],
        fmax=band_hz[1],
        htk=scale == "htk",
        norm="slaney" if norm == "slaney" else None,
    )
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6 * theirs.max())


@given(st.floats(-1e6, 1e6), st.sampled_from(SCALES))
def test_scales_invert_and_are_odd(hz, scale):
    """Going to mel and back changes nothing, and the sign of a frequency passes through."""
    mel = float(hz_to_mel(hz, scale))
    assert float(mel_to_hz(mel, scale)) == pytest.approx(hz, rel=1e-9, abs=1e-9)
    assert float(hz_to_mel(-hz, scale)) == -mel


@pytest.mark.parametrize("scale", SCALES)
def test_two_sided_bands_mirror_about_the_centre_frequency(scale):
    """Over a symmetric band, filter i at +f is filter n_mels-1-i at -f; the bin at -fs/2 alone has no mirror."""
    filters = mel_filterbank(
        sample_rate_hz=50_000,
        n_fft=512,
        n_mels=20,
        fmin_hz=-20_000,
        fmax_hz=20_000,
        scale=scale,
        norm="none",
        sides="two",
    )
    np.testing.assert_allclose(filters[:, 1:], filters[::-1, :0:-1], atol=1e-6)


def test_two_sided_linear_filters_peak_where_they_should():
    """Filters of a linear bank over ±fs/2 peak at equally spaced frequencies from low to high."""
    filters = mel_filterbank(
        sample_rate_hz=64, n_fft=64, n_mels=7, fmin_hz=-32, fmax_hz=32, scale="linear", norm="none", sides="two"
    )
    peaks_hz = bin_frequencies_hz(64, 64, "two")[filters.argmax(axis=1)]
    assert peaks_hz.tolist() == [-24, -16, -8, 0, 8, 16, 24]
    assert filters.max(axis=1).tolist() == [1.0] * 7


@pytest.mark.parametrize("sides", ["one", "two"])
def test_slaney_norm_gives_unit_area(sides):
    """With bins fine enough, the integral of each normalised filter over frequency is 1."""
    filters = mel_filterbank(
        sample_rate_hz=48_000,
        n_fft=8192,
        n_mels=10,
        fmin_hz=0,
        fmax_hz=24_000,
        scale="linear",
        norm="slaney",
        sides=sides,
    )
    np.testing.assert_allclose(filters.sum(axis=1) * 48_000 / 8192, 1.0, rtol=1e-3)


@pytest.mark.parametrize(("scale", "empty"), [("slaney", 47), ("htk", 42)])
def test_an_empty_filter_is_refused_by_its_number(scale, empty):
    """RF rates leave low mel filters between two bins: the error counts and names them and says what to change."""
    with pytest.raises(ValueError, match=rf"{empty} of 128 mel filters .*\(filters 0, 1, .*larger n_fft"):
        mel_filterbank(
            sample_rate_hz=2_400_000,
            n_fft=1024,
            n_mels=128,
            fmin_hz=0,
            fmax_hz=1_200_000,
            scale=scale,
            norm="none",
            sides="one",
        )


@pytest.mark.parametrize(
    ("fmin", "fmax", "sides"),
    [(-1, 100, "one"), (0, 501, "one"), (-501, 100, "two"), (100, 100, "two"), (float("nan"), 100, "one")],
)
def test_a_band_outside_the_spectrum_is_refused(fmin, fmax, sides):
    """The band must ascend and lie within the bins that exist."""
    with pytest.raises(ValueError, match="must ascend and lie within"):
        mel_filterbank(
            sample_rate_hz=1000,
            n_fft=64,
            n_mels=4,
            fmin_hz=fmin,
            fmax_hz=fmax,
            scale="linear",
            norm="none",
            sides=sides,
        )


def test_no_filters_are_refused():
    """n_mels below one is an error."""
    with pytest.raises(ValueError, match="n_mels"):
        mel_filterbank(
            sample_rate_hz=1000, n_fft=64, n_mels=0, fmin_hz=0, fmax_hz=500, scale="linear", norm="none", sides="one"
        )
