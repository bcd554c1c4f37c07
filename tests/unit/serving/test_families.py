"""Every family, fed and read by its contract alone: the details that decide whether a fix is right."""

import copy
from functools import cache

import numpy as np
import onnx
import orjson
import pytest
import scipy.signal
from onnx import helper
from pydantic import ValidationError
from pyproj import Geod

from tests.support.families import (
    EVERYBODY,
    FAMILIES,
    HEIMDALL_TABLE,
    METADATA_KEY,
    NETWORK,
    RATE,
    Scene,
    centroid,
    envelope_mel,
    family,
    figures,
    heimdall_net,
    scene,
    triangulation_columns,
)
from tests.support.graphs import record
from worker.dsp.log_mel import LogMel, LogMelSpec
from worker.dsp.receiver_features import receiver_features
from worker.errors import ModelRejected
from worker.reading import read_sigmf
from worker.recording import decode_capture
from worker.serving.contract import ModelContract
from worker.serving.inputs import FeaturePlan
from worker.serving.items import Item
from worker.serving.loading import file_digest, load_version
from worker.serving.outputs import read_outputs
from worker.serving.seating import Admission
from worker.serving.session import OnnxSession, SessionOptions

# Metres per degree of latitude and of longitude at 60° N, as tables of the WGS84 ellipsoid have them.
AT_60_NORTH = (111_412.0, 55_800.0)


def contract_of(model):
    """The contract of a family, read."""
    return ModelContract.model_validate(model.contract)


def tensors_of(model, heard):
    """What the graph is fed with, and where the receivers sit."""
    contract = contract_of(model)
    plan, admission = FeaturePlan(contract), Admission(contract)
    recording = read_sigmf(orjson.dumps(heard.sigmf()), heard.body())
    admission.check(recording)
    capture = decode_capture(recording, 0, contract.level)
    seats = admission.seat(capture.receivers, recording.channels, lambda: plan.powers(capture))
    tensors = plan.allocate(1, capture.samples.shape[1])
    plan.fill(tensors, 0, Item(capture, seats))
    return plan.feed(tensors), seats


def answers_of(model, heard, directory):
    """Raw outputs of the graph, and where the receivers sit."""
    onnx.save(model.graph, directory / "model.onnx")
    feed, seats = tensors_of(model, heard)
    outputs = OnnxSession(directory / "model.onnx", SessionOptions()).run(contract_of(model).outputs, feed)
    return outputs, seats


def loaded(model, directory):
    """A version that has proven itself."""
    path = model.write(directory / "model.onnx")
    return load_version(directory, record(file_digest(path)), SessionOptions(), max_batch_size=4)


def read(model, outputs, origin=None):
    """The fix in raw outputs of one item."""
    return read_outputs(contract_of(model), {name: np.array([row]) for name, row in outputs.items()}, [origin])


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_proves_itself_by_its_contract(name, tmp_path):
    """Session, contract and golden vectors that were computed apart fit together."""
    assert len(loaded(family(name), tmp_path).contract.golden) == 2


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(("count", "samples"), [(1, 10_000), (2, 2_048), (3, 30_000), (5, 4_000), (7, 10_000)])
def test_fixes_are_those_computed_by_hand(name, count, samples, tmp_path):
    """From IQ to position and covariance, the worker's arithmetic is that of the formulas."""
    model, heard = family(name), scene(count, NETWORK[:count], samples)
    outputs, seats = answers_of(model, heard, tmp_path)
    fix, expected = read_outputs(contract_of(model), outputs, [seats.origin]), model.expected(heard)
    places = (fix.longitude_deg[0], fix.latitude_deg[0], expected.longitude, expected.latitude)
    assert Geod(ellps="WGS84").inv(*places)[2] < 1.0
    spread = 1e-3 * np.trace(expected.covariance)
    np.testing.assert_allclose(fix.covariance_m2[0], expected.covariance, rtol=0, atol=spread)


MATTERING = [
    ("localization_net", "inputs/mel_spectrogram/signal", "iq", {"sides": "two"}),
    ("localization_net", "inputs/mel_spectrogram/boundary", "none", {}),
    ("localization_net", "inputs/mel_spectrogram/window", "hamming", {}),
    ("localization_net", "inputs/mel_spectrogram/sample_rate", RATE, {}),
    ("localization_net", "inputs/mel_spectrogram/mel_scale", "linear", {}),
    ("localization_net", "inputs/mel_spectrogram/filter_norm", "slaney", {}),
    ("localization_net", "inputs/mel_spectrogram/power_scale", "none", {}),
    ("localization_net", "inputs/mel_spectrogram/floor", {"kind": "add", "value": 1e-8}, {}),
    ("localization_net", "inputs/mel_spectrogram/floor", {"kind": "clamp", "value": 1e-9}, {}),
    ("localization_net", "inputs/mel_spectrogram/normalise", {"kind": "per_sample"}, {}),
    ("localization_net", "inputs/mel_spectrogram/frames", {"count": 32, "place": "start", "pad": "reflect"}, {}),
    ("localization_net", "inputs/mel_spectrogram/frames", {"count": 32, "place": "centre", "pad": "edge"}, {}),
    ("localization_net", "inputs/mel_spectrogram/receiver_padding", "fill", {}),
    ("triangulation_model", "level", "dbfs", {}),
    ("triangulation_model", "inputs/signal_mask/true_means", "present", {}),
    ("triangulation_model", "inputs/receiver_features/columns/0/offset", 0, {}),
    ("triangulation_model", "inputs/receiver_features/columns/1/clip", None, {}),
    ("triangulation_model", "inputs/receiver_features/columns/2/scale", 50, {}),
    ("triangulation_model", "inputs/receiver_features/columns/3/offset", 0, {}),
    ("triangulation_model", "inputs/receiver_features/columns/5/threshold_db", 0, {}),
    ("triangulation_model", "position/metres_per_degree", None, {}),
    ("triangulation_model", "position/origin", {"latitude": 45, "longitude": 8}, {}),
    ("heimdall_net", "inputs/mask/true_means", "absent", {}),
    ("heimdall_net", "inputs/iq_data/scale", 2, {}),
    ("heimdall_net", "inputs/iq_data/place", "centre", {}),
    ("heimdall_net", "inputs/receiver_ids/table", HEIMDALL_TABLE, {"unknown": 9}),
    ("heimdall_net", "inputs/features/columns/2/scale", 1000, {}),
    ("heimdall_net", "inputs/features/columns/5/clip", None, {}),
    ("heimdall_net", "inputs/positions/columns/0/name", "lat", {}),
    ("slot_net", "inputs/heard/true_means", "absent", {}),
    ("slot_net", "inputs/spectrogram/normalise", {"kind": "per_receiver"}, {}),
    ("slot_net", "inputs/spectrogram/frames", {"count": 24, "place": "start", "pad": "zeros"}, {}),
]


@pytest.mark.parametrize(
    ("name", "path", "value", "beside"), MATTERING, ids=[f"{row[0]}-{row[1].split('/', 1)[-1]}" for row in MATTERING]
)
def test_a_contract_with_one_detail_wrong_is_found_out(name, path, value, beside, tmp_path):
    """Each detail of preprocessing shows in the golden vectors: no model serves with another than its own."""
    model = family(name)
    document = copy.deepcopy(model.document())
    *parents, last = path.split("/")
    place = document
    for key in parents:
        place = place[int(key)] if key.isdigit() else place[key]
    place |= {last: value} | beside
    with pytest.raises(ModelRejected, match=r"golden\[\d\], output"):
        load_document(model, document, tmp_path)


def load_document(model, document, directory):
    """Load a family with another contract."""
    graph = onnx.ModelProto()
    graph.CopyFrom(model.graph)
    helper.set_model_props(graph, {METADATA_KEY: orjson.dumps(document).decode()})
    onnx.save(graph, directory / "model.onnx")
    digest = file_digest(directory / "model.onnx")
    return load_version(directory, record(digest), SessionOptions(), max_batch_size=2)


@cache
def spectrogram(count, samples):
    """What LocalizationNet is fed with, (3, 128, 32), and what was heard."""
    heard = scene(50 + count, NETWORK[:count], samples)
    feed, _ = tensors_of(family("localization_net"), heard)
    return feed["mel_spectrogram"][0], heard


def test_the_z_score_is_taken_before_the_crop():
    """Statistics are those of all frames: the frames that are kept have neither mean 0 nor deviation 1."""
    mel, heard = spectrogram(3, 60_000)
    np.testing.assert_allclose(mel, [envelope_mel(iq) for iq in heard.iq], atol=2e-4)
    assert np.abs(mel.mean(axis=(1, 2))).max() > 0.01
    assert np.abs(mel.std(axis=(1, 2)) - 1).max() > 0.01


def test_missing_frames_are_mirrored_about_both_ends():
    """Of 21 frames, 5 go before the first and 6 behind the last, the border not repeated."""
    mel, _ = spectrogram(3, 10_000)
    for away in range(1, 6):
        np.testing.assert_array_equal(mel[..., 5 - away], mel[..., 5 + away])
    for away in range(1, 7):
        np.testing.assert_array_equal(mel[..., 25 + away], mel[..., 25 - away])
    assert not np.array_equal(mel[..., 4], mel[..., 5])


@pytest.mark.parametrize(("count", "source"), [(1, [0, 0, 0]), (2, [0, 1, 0]), (3, [0, 1, 2])])
def test_missing_channels_repeat_those_present(count, source):
    """One receiver fills all three channels, of two the first comes again."""
    mel, heard = spectrogram(count, 10_000)
    np.testing.assert_allclose(mel, [envelope_mel(heard.iq[row]) for row in source], atol=2e-4)


def test_the_same_frames_as_scipy():
    """With zeros around the signal the spectrogram is that of scipy.signal.stft as it comes."""
    iq = scene(60, NETWORK[:2], 5_000).iq
    spec = LogMelSpec(
        signal="envelope",
        sides="one",
        boundary="zeros",
        n_fft=512,
        hop=100,
        n_mels=20,
        fmin_hz=0.0,
        fmax_hz=24_000.0,
        sample_rate_hz=48_000.0,
        mel_scale="linear",
        power_scale="1/sum(w)^2",
        floor_value=1e-12,
    )
    _, _, transform = scipy.signal.stft(np.abs(iq.astype(np.complex128)), nperseg=512, noverlap=412)
    corners = np.linspace(0, 24_000, 22)
    bins = np.arange(257) * 48_000 / 512
    filters = np.array([np.interp(bins, corners[k : k + 3], [0, 1, 0]) for k in range(20)])
    expected = 10 * np.log10(filters @ np.abs(transform) ** 2 + 1e-12)
    got = LogMel(spec)(iq)
    assert got.shape == expected.shape == (2, 20, spec.frames_in(5_000))
    np.testing.assert_allclose(got, expected, atol=2e-3)


@pytest.mark.parametrize(
    ("name", "mask", "present"), [("triangulation_model", "signal_mask", False), ("heimdall_net", "mask", True)]
)
def test_each_mask_has_its_own_polarity(name, mask, present):
    """True means absent to one family and present to the other."""
    feed, _ = tensors_of(family(name), scene(61, NETWORK[:3]))
    assert feed[mask].tolist() == [[present] * 3 + [not present] * 7]
    assert feed[mask].dtype == np.bool_


@pytest.mark.parametrize("name", ["triangulation_model", "heimdall_net"])
def test_padding_is_invisible_behind_the_mask(name, tmp_path):
    """A model of any number of receivers answers alike however many rows are padding, and whatever they hold."""
    model, heard = family(name), scene(62, NETWORK[:4])
    padded, _ = answers_of(model, heard, tmp_path)
    for most, fill in [(4, 0.0), (40, 0.0), (10, 7.0)]:
        inputs = copy.deepcopy(model.contract["inputs"])
        for bound in inputs.values():
            bound["fill"] = 0.0 if bound["feature"] == "receiver_mask" else fill
        other = model.with_contract(receivers={"set": {"max": most}}, inputs=inputs)
        outputs, _ = answers_of(other, heard, tmp_path)
        for output, row in padded.items():
            np.testing.assert_allclose(outputs[output], row, rtol=0, atol=1e-6)


def test_the_strongest_are_chosen_by_their_level_at_the_antenna():
    """Where levels are in dBm, a loud recording of a receiver with a low full scale is a weak signal."""
    heard = scene(63, EVERYBODY)
    model = family("triangulation_model")
    feed, seats = tensors_of(model, heard)
    assert list(seats.channels) == model.kept(heard)
    assert seats.channels != tensors_of(family("heimdall_net"), heard)[1].channels
    assert seats.origin == pytest.approx(centroid(heard.of(model.kept(heard))))
    expected = triangulation_columns(heard.of(model.kept(heard)))
    np.testing.assert_allclose(feed["receiver_features"][0], expected, atol=1e-5)


def test_the_altitude_can_be_held_at_zero():
    """A model trained without altitudes sees 0, wherever its receivers stand, and places about the centroid."""
    heard = scene(64, NETWORK)
    feed, seats = tensors_of(family("heimdall_net"), heard)
    places = np.array([[p.latitude - seats.origin[0], p.longitude - seats.origin[1], 0] for p in NETWORK])
    np.testing.assert_allclose(feed["positions"][0, :7], places, atol=1e-6)
    np.testing.assert_allclose(feed["features"][0, :7, 3:], places, atol=1e-6)
    assert not feed["positions"][0, 7:].any()


def test_samples_are_i_then_q():
    """Raw IQ is cut to the model's length, I before Q, and ends in zeros where it is too short."""
    heard = scene(65, NETWORK[:2], 3_000)
    samples = tensors_of(family("heimdall_net"), heard)[0]["iq_data"]
    assert samples.shape == (1, 10, 2, 4096)
    np.testing.assert_array_equal(samples[0, :2, 0, :3_000], heard.iq.real)
    np.testing.assert_array_equal(samples[0, :2, 1, :3_000], heard.iq.imag)
    assert not samples[0, :, :, 3_000:].any()


def test_receivers_may_be_numbered_by_their_rows():
    """Where the contract says so, a receiver's identity is its row, whatever it is called."""
    heard = scene(66, EVERYBODY[5:9])
    feed, _ = tensors_of(family("heimdall_net"), heard)
    assert feed["receiver_ids"].tolist() == [[0, 1, 2, 3] + [0] * 6]
    assert feed["receiver_ids"].dtype == np.int64


def test_receivers_may_be_numbered_by_a_table(tmp_path):
    """A table gives each receiver its number, a stranger the one for strangers, and the golden vectors hold."""
    model = heimdall_net(HEIMDALL_TABLE)
    feed, _ = tensors_of(model, scene(67, EVERYBODY[5:9]))
    assert feed["receiver_ids"].tolist() == [[1, 0, 9, 9] + [0] * 6]
    assert loaded(model, tmp_path)


def test_sigma_in_degrees_becomes_metres_at_the_fix():
    """A hundredth of a degree is 1114 m to the north and 558 m to the east at 60° N."""
    fix = read(family("localization_net"), {"positions": [60.0, 10.0], "uncertainties": [0.01, 0.02]})
    assert (fix.latitude_deg[0], fix.longitude_deg[0]) == (60.0, 10.0)
    sigma = np.array([0.02 * AT_60_NORTH[1], 0.01 * AT_60_NORTH[0]])
    np.testing.assert_allclose(fix.covariance_m2[0], np.diag(sigma**2), rtol=1e-5)


def test_standardised_metres_on_the_flat_plane():
    """z·std + mean metres from the centroid at 111,000 and 78,000 m per degree; half the total variance per axis."""
    outputs = {"position": [2.0, -1.0], "log_variance": [np.log(2.0)]}
    fix = read(family("triangulation_model"), outputs, (45.0, 8.0))
    assert fix.latitude_deg[0] == pytest.approx(45.0 + 43_500 / 111_000, abs=1e-9)
    assert fix.longitude_deg[0] == pytest.approx(8.0 - 21_500 / 78_000, abs=1e-9)
    np.testing.assert_allclose(fix.covariance_m2[0], np.diag([19_000.0**2, 21_000.0**2]), rtol=1e-9)


def test_degrees_about_the_centroid_with_a_total_per_component():
    """Each component is the logarithm of twice the variance of its axis, in degrees²."""
    outputs = {"position": [0.5, -0.25], "uncertainty": np.log([2e-4, 8e-4])}
    fix = read(family("heimdall_net"), outputs, (59.5, 10.25))
    assert (fix.latitude_deg[0], fix.longitude_deg[0]) == pytest.approx((60.0, 10.0), abs=1e-9)
    sigma = np.array([0.02 * AT_60_NORTH[1], 0.01 * AT_60_NORTH[0]])
    np.testing.assert_allclose(fix.covariance_m2[0], np.diag(sigma**2), rtol=1e-5)


def test_a_cholesky_factor_in_scaled_units():
    """[l11, l21, l22] in kilometres, widened by the recalibration, correlates east and north."""
    outputs = {"offset": [0.0, 0.0], "factor": [2.0, 1.0, 3.0], "confidence": [0.5]}
    fix = read(family("slot_net"), outputs, (45.0, 8.0))
    np.testing.assert_allclose(fix.covariance_m2[0], 1250.0**2 * np.array([[4.0, 2.0], [2.0, 10.0]]))
    assert fix.confidence is not None
    assert fix.confidence[0] == 0.5


def test_absent_slots_hold_the_fill():
    """Each receiver sits in its own slot; the others hold the fill, which normalisation does not touch."""
    heard = scene(68, (NETWORK[5], NETWORK[0]))
    feed, _ = tensors_of(family("slot_net"), heard)
    assert feed["heard"].tolist() == [[1, 0, 0, 0, 0, 1, 0]]
    assert feed["spectrogram"].shape == (1, 32, 24, 7)
    assert (feed["spectrogram"][..., 1:5] == 5.0).all()
    alone, _ = tensors_of(family("slot_net"), Scene(heard.iq[:1], heard.places[:1]))
    np.testing.assert_array_equal(feed["spectrogram"][..., 5], alone["spectrogram"][..., 5])


def test_the_formulas_of_the_figures():
    """SNR, power density and offset of a receiver are those of the documented formulas; noise alone reads 7.9 dB."""
    heard = scene(69, NETWORK[:3])
    got = receiver_features(heard.iq, RATE)
    expected = np.array([figures(iq, None) for iq in heard.iq]).T
    np.testing.assert_allclose([got.snr_db, got.psd_dbm_hz, got.freq_offset_hz], expected, rtol=1e-5, atol=1e-4)
    rng = np.random.default_rng(70)
    noise = rng.normal(size=100_000) + 1j * rng.normal(size=100_000)
    assert figures(noise, None)[0] == pytest.approx(7.9, abs=0.1)


def test_a_clip_that_descends_is_refused():
    """Bounds in the wrong order would silently hold a column at one value."""
    document = copy.deepcopy(family("triangulation_model").contract)
    document["inputs"]["receiver_features"]["columns"][0]["clip"] = [1, 0]
    with pytest.raises(ValidationError, match="must ascend"):
        ModelContract.model_validate(document)
