import copy
import json
import math

import pytest
from pydantic import ValidationError

from tests.support.graphs import contract, mel_input
from worker.serving.contract import ModelContract
from worker.serving.contract_inputs import FEATURE_AXES
from worker.serving.inputs import FeaturePlan

TORINO = {"id": "Torino", "geolocation": {"type": "Point", "coordinates": [7.672, 45.044, 250]}}
GENOVA = {"id": "Genova", "geolocation": {"type": "Point", "coordinates": [8.956, 44.395, 100]}}
MILANO = {"id": "Milano-Baggio", "geolocation": {"type": "Point", "coordinates": [9.123, 45.478, 120]}}

LOCALIZATION_NET = {
    "version": "1",
    "sample_rate": 48_000,
    "min_samples": 2048,
    "area": [6.738, 43.895, 9.623, 45.978],
    "receivers": {"slots": [TORINO, GENOVA, MILANO], "min_present": 1},
    "inputs": {
        "mel_spectrogram": {
            "feature": "log_mel",
            "dtype": "float32",
            "axes": ["batch", "receiver", "mel", "frame"],
            "signal": "envelope",
            "sides": "one",
            "n_fft": 2048,
            "hop": 512,
            "window": "hann",
            "sample_rate": 48_000,
            "n_mels": 128,
            "fmin": 0,
            "fmax": 24_000,
            "mel_scale": "htk",
            "filter_norm": "none",
            "floor": {"kind": "add", "value": 1e-9},
            "log": "db",
            "normalise": {"kind": "per_receiver"},
            "frames": {"count": 32, "place": "centre", "pad": "reflect"},
            "receiver_padding": "repeat",
        }
    },
    "position": {"output": "positions", "frame": "wgs84_deg", "axes": ["latitude", "longitude"]},
    "uncertainty": {"output": "uncertainties", "kind": "sigma"},
}
TRIANGULATION_MODEL = {
    "version": "1",
    "sample_rate": None,
    "receivers": {"set": {"max": 10, "keep": "strongest"}, "min_present": 3},
    "inputs": {
        "receiver_features": {
            "feature": "receiver_features",
            "axes": ["batch", "receiver", "column"],
            "columns": [
                {"name": "snr_db", "offset": -20, "scale": 80, "clip": [0, 1]},
                {"name": "psd_dbm_hz", "offset": -100, "scale": 30, "clip": [0, 1]},
                {"name": "freq_offset_hz", "offset": -50, "scale": 100, "clip": [0, 1]},
                {"name": "north_m", "offset": 1200, "scale": 30_000},
                {"name": "east_m", "offset": -800, "scale": 40_000},
                {"name": "signal_present", "threshold_db": 0},
            ],
        },
        "signal_mask": {
            "feature": "receiver_mask",
            "dtype": "bool",
            "axes": ["batch", "receiver"],
            "true_means": "absent",
        },
    },
    "position": {
        "output": "position",
        "frame": "enu_m",
        "origin": "centroid",
        "axes": ["north", "east"],
        "scale": [30_000, 40_000],
        "offset": [1200, -800],
        "metres_per_degree": [111_000, 78_000],
    },
    "uncertainty": {"output": "log_variance", "kind": "log_variance", "of": "total"},
}
HEIMDALL_NET = {
    "version": "1",
    "sample_rate": 50_000,
    "receivers": {"set": {"max": 7}, "min_present": 3},
    "inputs": {
        "iq_data": {"feature": "iq", "axes": ["batch", "receiver", "iq", "sample"], "length": 10_000},
        "features": {
            "feature": "receiver_features",
            "axes": ["batch", "receiver", "column"],
            "columns": [
                {"name": name} for name in ("snr_db", "psd_dbm_hz", "freq_offset_hz", "delta_lat", "delta_lon", "alt")
            ],
        },
        "positions": {
            "feature": "receiver_positions",
            "axes": ["batch", "receiver", "column"],
            "columns": [{"name": "delta_lat"}, {"name": "delta_lon"}, {"name": "alt", "clip": [0, 0]}],
        },
        "receiver_ids": {
            "feature": "receiver_ids",
            "dtype": "int64",
            "axes": ["batch", "receiver"],
            "table": {"Torino": 0, "Genova": 1, "Milano-Baggio": 2},
        },
        "mask": {"feature": "receiver_mask", "dtype": "bool", "axes": ["batch", "receiver"], "true_means": "present"},
    },
    "position": {
        "output": "position",
        "frame": "delta_deg",
        "origin": "centroid",
        "axes": ["latitude", "longitude"],
    },
    "uncertainty": {"output": "uncertainty", "kind": "log_variance", "of": "total"},
}


def changed(path, value, document=None):
    """The plain contract (or another document) with one field set."""
    result = copy.deepcopy(document or contract())
    *parents, last = path.split("/")
    node = result
    for part in parents:
        node = node[part]
    node[last] = value
    return result


def refusal(document):
    """What the validator says of a document."""
    with pytest.raises(ValidationError) as caught:
        ModelContract.model_validate(document)
    return str(caught.value)


@pytest.mark.parametrize(
    "document", [LOCALIZATION_NET, TRIANGULATION_MODEL, HEIMDALL_NET], ids=["localization", "triangulation", "heimdall"]
)
def test_the_upstream_families_are_expressible(document):
    """Each upstream family is a contract in JSON alone, and its features can be computed."""
    read = ModelContract.model_validate(json.loads(json.dumps(document)))
    FeaturePlan(read)
    assert read.required_samples >= 512
    assert set(read.inputs) == set(document["inputs"])


def test_the_spectrogram_of_localization_net_is_as_it_was_trained():
    """Every figure of the training's spectrogram reaches the signal processing."""
    spec = ModelContract.model_validate(LOCALIZATION_NET).inputs["mel_spectrogram"].spec
    assert (spec.signal, spec.sides, spec.n_fft, spec.hop, spec.n_mels) == ("envelope", "one", 2048, 512, 128)
    assert (spec.fmin_hz, spec.fmax_hz, spec.sample_rate_hz, spec.mel_scale, spec.filter_norm) == (
        0,
        24_000,
        48_000,
        "htk",
        "none",
    )
    assert (spec.floor, spec.floor_value, spec.log, spec.normalise) == ("add", 1e-9, "db", "per_receiver")
    assert (spec.n_frames, spec.place, spec.pad_mode) == (32, "centre", "reflect")


@pytest.mark.parametrize(("written", "meant"), [("none", "none"), ("1/n_fft", "1/n_fft"), ("1/sum(w)²", "1/sum(w)^2")])
def test_power_scales_are_handed_on(written, meant):
    """The contract writes the square with its sign."""
    document = contract(inputs={"mel": mel_input(power_scale=written)})
    assert ModelContract.model_validate(document).inputs["mel"].spec.power_scale == meant


def test_without_frames_every_frame_is_kept():
    """Frames are a number only where the contract fixes one."""
    spec = ModelContract.model_validate(contract(inputs={"mel": mel_input(frames=None)})).inputs["mel"].spec
    assert spec.n_frames is None


@pytest.mark.parametrize(
    "path",
    [
        "colour",
        "receivers/colour",
        "receivers/set/colour",
        "inputs/mel/colour",
        "inputs/mel/floor/colour",
        "inputs/mel/frames/colour",
        "inputs/mask/colour",
        "position/colour",
        "uncertainty/colour",
    ],
)
def test_an_unknown_key_is_an_error(path):
    """A misspelt option must not silently fall back to its default."""
    assert "colour" in refusal(changed(path, 1))


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("version", "2", "version"),
        ("sample_rate", 0, "sample_rate"),
        ("min_samples", 0, "min_samples"),
        ("area", [0, 0, 1], "area"),
        ("area", [200, 0, 210, 1], "area"),
        ("area", {"type": "Point", "coordinates": [0, 0]}, "GeoJSON Polygon"),
        ("level", "dbw", "level"),
        ("receivers", {"slots": []}, "slots"),
        ("receivers", {"slots": [TORINO, TORINO]}, "share an id"),
        ("receivers", {"slots": [TORINO, GENOVA], "min_present": 3}, "more than the 2 slots"),
        ("receivers", {"set": {"max": 65}}, "max"),
        ("receivers", {"set": {"max": 3, "keep": "nearest"}}, "keep"),
        ("inputs", {}, "inputs"),
        ("inputs/mel/feature", "spectrogram", "feature"),
        ("inputs/mel/dtype", "int8", "dtype"),
        ("inputs/mel/axes", ["batch", "batch", "receiver", "mel", "frame"], "one axis twice"),
        ("inputs/mel/axes", ["receiver", "mel", "frame"], "no batch axis"),
        ("inputs/mel/axes", ["batch", "receiver", "mel"], "has the axes"),
        ("inputs/mel/axes", ["batch", "mel", "frame"], "has the axes"),
        ("inputs/mel/axes", ["batch", "receiver", "mel", "frame", "iq"], "has the axes"),
        ("inputs/mask/axes", ["batch", "receiver", "column"], "has the axes"),
        ("inputs/mel/n_fft", 8, "n_fft"),
        ("inputs/mel/hop", 0, "hop"),
        ("inputs/mel/floor", {"value": 0}, "floor"),
        ("inputs/mel/normalise", {"kind": "fixed", "std": 0}, "std"),
        ("inputs/mel/frames", {"count": 0}, "count"),
        ("inputs/mask/true_means", "here", "true_means"),
        ("position/axes", ["north", "east"], "frame wgs84_deg has the axes"),
        ("position/axes", ["latitude", "latitude"], "frame wgs84_deg has the axes"),
        ("position/origin", "centroid", "takes no origin"),
        ("position/frame", "delta_deg", "need one"),
        ("position/scale", [1], "scale"),
        ("uncertainty/kind", "stddev", "kind"),
        ("uncertainty/scale", 0, "scale"),
        ("uncertainty", {"output": "u", "kind": "cholesky", "of": "total"}, "no meaning"),
        ("uncertainty", {"output": "u", "kind": "sigma_rho", "of": "total"}, "no meaning"),
    ],
)
def test_a_wrong_field_is_refused_with_the_reason(path, value, said):
    """What cannot be meant is found when the contract is read."""
    assert said in refusal(changed(path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        pytest.param(
            "position/metres_per_degree",
            [0.0, 78_000.0],
        ),
        pytest.param(
            "position/scale",
            [0.0, 1.0],
        ),
        pytest.param(
            "receivers/min_present",
            4,
        ),
        pytest.param(
            "area",
            {"type": "Polygon"},
        ),
        pytest.param(
            "area",
            {"type": "Polygon", "coordinates": []},
        ),
    ],
)
def test_what_no_job_could_be_computed_with_is_refused(path, value):
    """A contract that would fail every job, or crash its loading, is refused when it is read."""
    with pytest.raises(ValidationError):
        ModelContract.model_validate(changed(path, value))


def test_relative_columns_need_an_origin():
    """Metres and degrees from nowhere are no figures."""
    columns = {"feature": "receiver_features", "axes": ["batch", "receiver", "column"]}
    for name in ("north_m", "east_m", "delta_lat", "delta_lon"):
        assert "origin" in refusal(changed("inputs/f", columns | {"columns": [{"name": name}]}))


def test_a_column_scale_of_zero_is_refused():
    """Dividing by zero is found in the contract, not in the first job."""
    columns = {"feature": "receiver_features", "axes": ["batch", "receiver", "column"]}
    document = changed("inputs/f", columns | {"columns": [{"name": "lat", "scale": 0}]})
    assert "divides by zero" in refusal(document)
    assert "columns" in refusal(changed("inputs/f", columns | {"columns": []}))


@pytest.mark.parametrize(
    "golden",
    [
        {"expected": {}},
        {"sigmf": {}, "expected": {}},
        {"body": "", "expected": {}},
        {"sigmf": {}, "body": "", "tensors": {}, "expected": {}},
        {"sigmf": {}, "tensors": {}, "expected": {}},
        {"tensors": {}},
        {"tensors": {}, "expected": {}, "rtol": -1},
    ],
)
def test_a_golden_vector_has_one_source(golden):
    """A golden vector is IQ or tensors, wholly, with what is expected."""
    assert "golden" in refusal(contract(golden=[golden]))


def test_one_receiver_needs_no_receiver_axis():
    """A model of a single receiver may have no receiver axis; one of several must."""
    single = contract(receivers={"set": {"max": 1}}, inputs={"mel": mel_input(axes=["batch", "mel", "frame"])})
    assert ModelContract.model_validate(single).capacity == 1


def test_every_feature_has_its_axes():
    """The table of axes covers every feature that can be named."""
    features = {"log_mel", "receiver_features", "receiver_positions", "receiver_ids", "receiver_mask", "iq"}
    assert set(FEATURE_AXES) == features
    assert all("batch" in axes and "receiver" in axes for axes in FEATURE_AXES.values())


def test_required_samples_hold_one_whole_transform():
    """A recording must fill one FFT, however few samples the contract asks for."""
    assert ModelContract.model_validate(contract(min_samples=1)).required_samples == 64
    assert ModelContract.model_validate(contract(min_samples=1000)).required_samples == 1000
    assert ModelContract.model_validate(HEIMDALL_NET).required_samples == 512


def test_outputs_come_once():
    """Each output that is read is asked for once."""
    plain = ModelContract.model_validate(contract())
    assert plain.outputs == ("position", "uncertainty")
    sure = ModelContract.model_validate(contract(confidence={"output": "uncertainty"}))
    assert sure.outputs == ("position", "uncertainty")
    own = ModelContract.model_validate(contract(confidence={"output": "sure"}))
    assert own.outputs == ("position", "uncertainty", "sure")


@pytest.mark.parametrize(
    ("document", "needed"),
    [
        (contract(), False),
        (LOCALIZATION_NET, True),
        (TRIANGULATION_MODEL, True),
        (changed("inputs", {"mel": mel_input()}, contract()), False),
        (
            contract(position={"output": "p", "frame": "enu_m", "origin": "centroid", "axes": ["north", "east"]}),
            True,
        ),
        (
            contract(
                position={
                    "output": "p",
                    "frame": "enu_m",
                    "origin": {"latitude": 45, "longitude": 7},
                    "axes": ["north", "east"],
                }
            ),
            False,
        ),
        (changed("inputs/ids", HEIMDALL_NET["inputs"]["receiver_ids"]), True),
        (changed("inputs/pos", {**HEIMDALL_NET["inputs"]["positions"], "columns": [{"name": "lat"}]}), True),
    ],
)
def test_positions_are_needed_where_something_reads_them(document, needed):
    """Jobs must name their receivers only for models that look at them."""
    assert ModelContract.model_validate(document).needs_positions is needed


def test_numbers_are_finite():
    """NaN and infinity are no figures of a contract."""
    assert "fmin" in refusal(changed("inputs/mel/fmin", math.nan))
    assert "fill" in refusal(changed("inputs/mel/fill", math.inf))
