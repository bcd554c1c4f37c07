from dataclasses import replace
from itertools import product

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.dsp import reference
from worker.dsp.log_mel import LogMel, LogMelSpec

RNG = np.random.default_rng(7)
IQ = LogMelSpec(
    signal="iq",
    n_fft=128,
    hop=48,
    n_mels=20,
    fmin_hz=-25_000,
    fmax_hz=25_000,
    sample_rate_hz=50_000,
    mel_scale="linear",
)
ENVELOPE = replace(IQ, signal="envelope", sides="one", fmin_hz=0, mel_scale="htk", n_fft=256, n_mels=16)
# As LocalizationNet was trained; see the model contract.
LOCALIZATION_NET = LogMelSpec(
    signal="envelope",
    sides="one",
    n_fft=2048,
    hop=512,
    n_mels=128,
    fmin_hz=0,
    fmax_hz=24_000,
    sample_rate_hz=48_000,
    mel_scale="htk",
    floor="add",
    floor_value=1e-9,
    normalise="per_receiver",
    n_frames=32,
    place="centre",
    pad_mode="reflect",
)


def recording(receivers: int, samples: int, rng: np.random.Generator = RNG) -> np.ndarray:
    """A tone and noise in each receiver, at levels that differ between receivers."""
    tone = np.exp(2j * np.pi * 0.11 * np.arange(samples))
    noise = rng.standard_normal((receivers, samples)) + 1j * rng.standard_normal((receivers, samples))
    level = 10.0 ** -np.arange(receivers)[:, None]
    return (level * (0.2 * tone + 0.05 * noise)).astype(np.complex64)


VARIANTS = [
    IQ,
    ENVELOPE,
    replace(IQ, sides="two", signal="envelope"),
    *(replace(IQ, window=window) for window in ("hamming", "blackman", "boxcar")),
    *(replace(IQ, power_scale=scale, floor_value=1e-8) for scale in ("1/n_fft", "1/sum(w)^2")),
    *(replace(IQ, floor=floor, log=log, floor_value=1e-3) for floor, log in product(("add", "clamp"), ("ln", "db"))),
    *(replace(IQ, normalise=normalise, mean=-31.5, std=9.25) for normalise in ("fixed", "per_sample", "per_receiver")),
    replace(IQ, mel_scale="htk", filter_norm="slaney", n_mels=8, n_fft=512),
    replace(IQ, mel_scale="slaney", n_mels=8, n_fft=512, fmin_hz=-20_000),
    *(
        replace(IQ, normalise=normalise, mean=3.0, n_frames=n_frames, place=place, pad_mode=pad_mode)
        for normalise, n_frames, place, pad_mode in product(
            ("fixed", "per_sample"), (7, 40), ("start", "centre"), ("zeros", "reflect", "edge")
        )
    ),
]


@pytest.mark.parametrize("spec", VARIANTS)
def test_every_option_agrees_with_a_float64_reference(spec):
    """Each field changes the result as its definition says, within 1e-4."""
    iq = recording(3, 900)
    got = LogMel(spec)(iq)
    assert got.dtype == np.float32
    assert got.shape == (3, spec.n_mels, spec.frames_in(900))
    np.testing.assert_allclose(got, reference.log_mel(spec, iq), rtol=0, atol=1e-4)


def test_localization_net_agrees_with_a_float64_reference():
    """The upstream preprocessing comes out whole: statistics before the centre crop to 32 frames."""
    iq = recording(3, 24_000)
    np.testing.assert_allclose(LogMel(LOCALIZATION_NET)(iq), reference.log_mel(LOCALIZATION_NET, iq), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("scale", "norm"), list(product(["htk", "slaney"], ["slaney", "none"])))
def test_real_signals_agree_with_librosa(scale, norm):
    """Without centring, librosa.feature.melspectrogram of the envelope is the same within 1e-5 of its value."""
    iq = recording(1, 8192)
    spec = replace(
        LOCALIZATION_NET,
        n_fft=1024,
        hop=256,
        n_mels=40,
        mel_scale=scale,
        filter_norm=norm,
        normalise="none",
        n_frames=None,
    )
    mel = librosa.feature.melspectrogram(
        y=np.abs(iq[0]).astype(np.float64),
        sr=spec.sample_rate_hz,
        n_fft=spec.n_fft,
        hop_length=spec.hop,
        window="hann",
        center=False,
        power=2.0,
        n_mels=spec.n_mels,
        fmin=spec.fmin_hz,
        fmax=spec.fmax_hz,
        htk=scale == "htk",
        norm="slaney" if norm == "slaney" else None,
        dtype=np.float64,
    )
    np.testing.assert_allclose(LogMel(spec)(iq)[0], 10 * np.log10(mel + spec.floor_value), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "spec", [IQ, replace(IQ, normalise="per_sample"), LOCALIZATION_NET], ids=["iq", "z", "upstream"]
)
def test_bits_do_not_depend_on_what_is_computed_beside(spec):
    """An item has the same bits first, last, repeated, between other shapes, and written into a larger tensor."""
    item, other, longer = recording(3, 20_000), 9 * recording(3, 20_000), recording(5, 30_000)
    first = LogMel(spec)(item)
    log_mel = LogMel(spec)
    batch = np.full((4, *first.shape), np.nan, np.float32)
    for row, iq in zip(batch, (other, item, other, item), strict=True):
        log_mel(longer)
        assert log_mel(iq, out=row) is row
    np.testing.assert_array_equal(batch[1], first)
    np.testing.assert_array_equal(batch[3], first)


@pytest.mark.parametrize("n_samples", [600, 3000, 20_000])
@pytest.mark.parametrize("spec", VARIANTS)
def test_items_together_have_the_bits_of_each_alone(spec, n_samples):
    """So many that a few receivers are transformed at once, and the last few are fewer."""
    items = np.stack([recording(3, n_samples) * np.float32(1 + i) for i in range(7)])
    log_mel = LogMel(spec)
    np.testing.assert_array_equal(log_mel(items), np.stack([log_mel(item) for item in items]))


def test_bits_of_a_receiver_do_not_depend_on_the_others():
    """Without statistics over the sample, a receiver alone gives the bits it has among others."""
    iq = recording(5, 3000)
    together = LogMel(IQ)(iq)
    for receiver in range(5):
        np.testing.assert_array_equal(LogMel(IQ)(iq[receiver : receiver + 1])[0], together[receiver])


@pytest.mark.parametrize(("offset", "above"), [(0.2, True), (-0.2, False)])
def test_tones_land_on_their_side_of_the_middle(offset, above):
    """A tone above the centre frequency lights a band of the upper half, one below it the lower."""
    tone = np.exp(2j * np.pi * offset * np.arange(2000)).astype(np.complex64)[None]
    bands = LogMel(IQ)(tone)[0].argmax(axis=0)
    assert (bands >= IQ.n_mels // 2).all() if above else (bands < IQ.n_mels // 2).all()


@pytest.mark.parametrize("normalise", ["per_sample", "per_receiver"])
def test_silence_normalises_to_zeros(normalise):
    """A constant spectrogram has no deviation to divide by and becomes exactly zero."""
    silence = np.zeros((2, 1000), np.complex64)
    assert not LogMel(replace(IQ, normalise=normalise))(silence).any()


def test_per_receiver_levels_vanish_and_per_sample_levels_stay():
    """Statistics over the sample keep level differences between receivers; those of each receiver remove them."""
    iq = recording(2, 3000)
    by_sample = LogMel(replace(IQ, normalise="per_sample"))(iq).mean(axis=(1, 2))
    by_receiver = LogMel(replace(IQ, normalise="per_receiver"))(iq).mean(axis=(1, 2))
    assert by_sample[0] - by_sample[1] > 1
    np.testing.assert_allclose(by_receiver, 0, atol=1e-5)


@given(st.integers(128, 700), st.integers(1, 20))
@settings(max_examples=30)
def test_cropping_before_and_after_the_transform_agree(samples, n_frames):
    """With fixed normalisation, frames that will be cropped away are never computed, and the result is unchanged."""
    iq = recording(2, samples, np.random.default_rng(samples))
    everything = LogMel(IQ)(iq)
    cropped = LogMel(replace(IQ, n_frames=n_frames, place="centre"))(iq)
    surplus = everything.shape[-1] - n_frames
    if surplus >= 0:
        np.testing.assert_allclose(cropped, everything[..., surplus // 2 : surplus // 2 + n_frames], atol=1e-5)
    else:
        assert cropped.shape[-1] == n_frames


def test_the_shortest_recording_gives_one_frame():
    """n_fft samples are one frame; one less is refused."""
    assert LogMel(IQ)(recording(1, IQ.n_fft)).shape[-1] == 1
    with pytest.raises(ValueError, match="127 samples"):
        LogMel(IQ)(recording(1, IQ.n_fft - 1))


def test_an_empty_filter_is_refused_before_any_signal():
    """A specification with a filter between two bins fails when LogMel is made."""
    with pytest.raises(ValueError, match="hold no frequency bin"):
        LogMel(replace(LOCALIZATION_NET, sample_rate_hz=2_400_000, fmax_hz=1_200_000))


@pytest.mark.parametrize(
    "change",
    [
        {"hop": 0},
        {"n_frames": 0},
        {"floor_value": 0.0},
        {"floor_value": 1e-46},
        {"std": 0.0},
        {"sample_rate_hz": float("inf")},
        {"sides": "one"},
    ],
)
def test_a_specification_out_of_range_is_refused(change):
    """A number that cannot work is named when the specification is made."""
    with pytest.raises(ValueError, match=next(iter(change))):
        replace(IQ, **change)
