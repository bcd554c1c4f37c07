import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.geo import Point, Receiver
from tests.support.graphs import contract, mask_input, mel_input
from worker.dsp.log_mel import LogMel
from worker.dsp.receiver_features import receiver_features
from worker.errors import NonFiniteIq
from worker.geo.wgs84 import wgs84_to_enu
from worker.recording import IqCapture
from worker.serving.contract import ModelContract
from worker.serving.inputs import FeaturePlan, row_digest
from worker.serving.items import Item
from worker.serving.seating import Seats

RATE = 48_000.0
PLACES = [(7.0, 44.0, 100.0), (8.0, 45.0, 200.0), (9.0, 46.0, 300.0)]
COLUMN_AXES = ["batch", "receiver", "column"]


def plan_of(inputs, **changes):
    """A plan for these inputs."""
    return FeaturePlan(ModelContract.model_validate(contract(inputs=inputs, **changes)))


def receivers_of(n, **fields):
    """Receivers at the places of this module."""
    return tuple(Receiver(id=f"r{i}", geolocation=Point(coordinates=PLACES[i]), **fields) for i in range(n))


def iq_of(seed, channels, n=512):
    """Complex noise."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(channels, n)) + 1j * rng.normal(size=(channels, n))).astype(np.complex64) / 4


def item_of(samples, channels=(0, 1, -1), *, origin=None, receivers=None, frequency=None, rate=RATE, level="dbfs"):
    """An item whose receivers sit as told."""
    named = receivers_of(len(samples)) if receivers is None else receivers
    return Item(IqCapture(samples, rate, frequency, named, False, level), Seats(channels, (), origin))


def filled(plan, *items):
    """Tensors of items, in canonical order."""
    tensors = plan.allocate(len(items), items[0].capture.samples.shape[1])
    for row, item in enumerate(items):
        plan.fill(tensors, row, item)
    return tensors


def columns_of(columns, **changes):
    """A contract's inputs: the columns, and nothing else."""
    return {"f": {"feature": "receiver_features", "axes": COLUMN_AXES, "columns": columns} | changes}


def test_spectrograms_sit_in_their_rows():
    """Each present receiver's spectrogram is its own; absent rows hold the fill."""
    samples = iq_of(0, 2)
    bound = mel_input(receiver_padding="fill", fill=-7.5)
    plan = plan_of({"mel": bound})
    mel = filled(plan, item_of(samples, (1, -1, 0)))["mel"]
    spec = ModelContract.model_validate(contract(inputs={"mel": bound})).inputs["mel"].spec
    expected = LogMel(spec)(samples)
    np.testing.assert_array_equal(mel[0, 0], expected[1])
    np.testing.assert_array_equal(mel[0, 2], expected[0])
    assert (mel[0, 1] == -7.5).all()


@pytest.mark.parametrize(
    ("channels", "source"), [((0, -1, -1), [0, 0, 0]), ((0, 1, -1), [0, 1, 0]), ((-1, 0, -1), [0, 0, 0])]
)
def test_repeat_padding_repeats_the_present_receivers_in_turn(channels, source):
    """Where a model was trained with repeated receivers, absent rows repeat those present."""
    samples = iq_of(1, max(channels) + 1)
    mel = filled(plan_of({"mel": mel_input()}), item_of(samples, channels))["mel"][0]
    alone = [filled(plan_of({"mel": mel_input()}), item_of(samples, (c, -1, -1)))["mel"][0, 0] for c in source]
    np.testing.assert_array_equal(mel, np.stack(alone))


@pytest.mark.parametrize(
    ("true_means", "expected"), [("present", [True, False, True]), ("absent", [False, True, False])]
)
@pytest.mark.parametrize("dtype", ["bool", "float32", "int64"])
def test_the_mask_says_who_is_there(true_means, expected, dtype):
    """Both polarities, in any dtype."""
    plan = plan_of({"mask": mask_input(true_means=true_means, dtype=dtype)})
    mask = filled(plan, item_of(iq_of(2, 2), (0, -1, 1)))["mask"]
    assert mask.dtype == dtype
    assert mask[0].tolist() == [type(mask[0, 0].item())(v) for v in expected]


def test_ids_come_from_the_table():
    """Known ids have their number, others the contract's, absent rows the fill."""
    ids = {"feature": "receiver_ids", "dtype": "int64", "axes": ["batch", "receiver"], "fill": -1}
    plan = plan_of({"ids": ids | {"table": {"r0": 40, "r1": 41}, "unknown": 9}})
    assert filled(plan, item_of(iq_of(3, 3), (2, 0, -1)))["ids"][0].tolist() == [9, 40, -1]


@pytest.mark.parametrize(
    ("length", "place", "pad", "expected"),
    [
        (2, "start", "zeros", [0, 1]),
        (2, "centre", "zeros", [1, 2]),
        (6, "start", "zeros", [0, 1, 2, 3, None, None]),
        (6, "centre", "edge", [0, 0, 1, 2, 3, 3]),
        (6, "start", "reflect", [0, 1, 2, 3, 2, 1]),
    ],
)
def test_raw_iq_is_cut_and_scaled(length, place, pad, expected):
    """I and Q are two rows; crop and padding follow the contract, the scale applies."""
    samples = (np.arange(4) + 1 + 1j * (np.arange(4) + 11)).astype(np.complex64)[np.newaxis]
    bound = {"feature": "iq", "axes": ["batch", "receiver", "iq", "sample"], "length": length, "scale": 2.0}
    iq = filled(plan_of({"iq": bound | {"place": place, "pad": pad}}), item_of(samples, (0, -1, -1)))["iq"]
    assert iq.shape == (1, 3, 2, length)
    assert iq[0, 0, 0].tolist() == [0 if i is None else 2 * (i + 1) for i in expected]
    assert iq[0, 0, 1].tolist() == [0 if i is None else 2 * (i + 11) for i in expected]
    assert not iq[0, 1:].any()


def test_measured_columns_follow_their_formulas():
    """SNR, density, offset and presence are those of the samples, each shifted, scaled and clipped as told."""
    samples = iq_of(4, 2)
    measured = receiver_features(samples, RATE)
    columns = [
        {"name": "snr_db", "offset": -20, "scale": 80, "clip": [0, 1]},
        {"name": "psd_dbm_hz", "offset": -100, "scale": 30},
        {"name": "freq_offset_hz", "offset": -50, "scale": 100, "clip": [0, 1]},
        {"name": "signal_present"},
        {"name": "signal_present", "threshold_db": 50},
    ]
    got = filled(plan_of(columns_of(columns, dtype="float64")), item_of(samples))["f"][0]
    for row in (0, 1):
        expected = [
            min(max((measured.snr_db[row] + 20) / 80, 0), 1),
            (measured.psd_dbm_hz[row] + 100) / 30,
            min(max((measured.freq_offset_hz[row] + 50) / 100, 0), 1),
            1.0,
            0.0,
        ]
        np.testing.assert_allclose(got[row], expected, rtol=1e-12)
    assert not got[2].any()


def test_places_are_columns():
    """Position, frequency and what is relative to the origin, on the ellipsoid."""
    names = ["lat", "lon", "alt", "center_frequency", "delta_lat", "delta_lon", "north_m", "east_m"]
    position = {"output": "p", "frame": "delta_deg", "origin": "centroid", "axes": ["latitude", "longitude"]}
    bound = {
        "feature": "receiver_positions",
        "axes": COLUMN_AXES,
        "dtype": "float64",
        "columns": [{"name": n} for n in names],
    }
    plan = plan_of({"p": bound}, position=position)
    item = item_of(iq_of(5, 2), (1, 0, -1), origin=(44.5, 7.5), frequency=145.5e6)
    got = filled(plan, item)["p"][0]
    east, north = wgs84_to_enu(44.5, 7.5, np.array([45.0, 44.0]), np.array([8.0, 7.0]))
    np.testing.assert_allclose(got[0], [45, 8, 200, 145.5e6, 0.5, 0.5, north[0], east[0]], rtol=1e-12)
    np.testing.assert_allclose(got[1], [44, 7, 100, 145.5e6, -0.5, -0.5, north[1], east[1]], rtol=1e-12)
    assert not got[2].any()


def test_metres_on_a_flat_plane_are_degrees_times_a_constant():
    """A model trained on a plane gets metres of that plane."""
    position = {
        "output": "p",
        "frame": "enu_m",
        "origin": "centroid",
        "axes": ["north", "east"],
        "metres_per_degree": [111_000, 78_000],
    }
    plan = plan_of(columns_of([{"name": "north_m"}, {"name": "east_m"}], dtype="float64"), position=position)
    got = filled(plan, item_of(iq_of(6, 1), (0, -1, -1), origin=(43.5, 7.25)))["f"][0]
    np.testing.assert_allclose(got[0], [0.5 * 111_000, -0.25 * 78_000], rtol=1e-12)


def test_an_unknown_frequency_is_zero():
    """A job that states no frequency has 0 in its column."""
    got = filled(plan_of(columns_of([{"name": "center_frequency"}])), item_of(iq_of(6, 1), (0, -1, -1)))["f"]
    assert got[0, 0, 0] == 0


def test_a_job_without_a_rate_has_the_models():
    """The offset of a peak is measured with the contract's rate where the job leaves it out."""
    samples = np.exp(2j * np.pi * 0.25 * np.arange(512)).astype(np.complex64)[np.newaxis]
    got = filled(plan_of(columns_of([{"name": "freq_offset_hz"}])), item_of(samples, (0, -1, -1), rate=None))["f"]
    assert got[0, 0, 0] == 12_000


def test_a_capture_in_another_level_than_the_contracts_is_a_bug():
    """Samples in milliwatts under a contract in dBFS, or the reverse, would be features of nothing."""
    plan = plan_of({"mel": mel_input()}, level="dbm")
    with pytest.raises(ValueError, match="the capture is in dbfs, the contract in dbm"):
        filled(plan, item_of(iq_of(1, 2)))


def test_in_dbm_the_density_is_in_dbm_per_hertz():
    """A tone of -30 dBm in one bin of fs/N has -30 dBm - 10·lg(fs/N) per hertz."""
    tone = np.exp(2j * np.pi * 0.25 * np.arange(512)).astype(np.complex64)[np.newaxis] * np.float32(10 ** (-30 / 20))
    plan = plan_of(columns_of([{"name": "psd_dbm_hz"}]), level="dbm")
    got = filled(plan, item_of(tone, (0, -1, -1), level="dbm"))["f"][0, 0, 0]
    assert got == pytest.approx(-30 - 10 * np.log10(RATE / 512), abs=0.01)


def test_powers_without_levels_are_those_of_the_samples():
    """In dBFS the strongest receiver is the one with the largest numbers."""
    samples = iq_of(7, 3) * np.array([[1.0], [3.0], [2.0]], np.complex64)
    powers = plan_of({"mel": mel_input()}).powers(item_of(samples, (0, 1, 2)).capture)
    assert np.argsort(powers).tolist() == [0, 2, 1]


@pytest.mark.parametrize(
    ("bound", "amplitude"),
    [
        (mel_input(), 1e30),
        ({"feature": "iq", "axes": ["batch", "receiver", "iq", "sample"], "length": 16, "dtype": "float16"}, 1e6),
        ({"feature": "receiver_features", "axes": COLUMN_AXES, "columns": [{"name": "snr_db"}]}, 1e30),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_features_that_overflow_are_the_inputs_fault(bound, amplitude):
    """Samples far beyond full scale are answered as such, and never reach the model as infinities."""
    with pytest.raises(NonFiniteIq, match="input x overflow"):
        filled(plan_of({"x": bound}), item_of(iq_of(8, 1) * np.float32(amplitude), (0, -1, -1)))


@given(seeds=st.lists(st.integers(0, 1000), min_size=1, max_size=5, unique=True), row=st.integers(0, 4))
@settings(max_examples=20, deadline=None)
def test_the_features_of_an_item_are_the_same_bits_in_any_batch(seeds, row):
    """What is computed beside an item, and in which row it lies, changes no bit of it."""
    row %= len(seeds)
    plan = plan_of(
        {
            "mel": mel_input(normalise={"kind": "per_receiver"}),
            "mask": mask_input(),
            **columns_of([{"name": "snr_db"}, {"name": "psd_dbm_hz"}]),
        }
    )
    items = [item_of(iq_of(seed, 2)) for seed in seeds]
    batch, alone = filled(plan, *items), filled(plan, items[row])
    for name, tensor in batch.items():
        assert tensor[row].tobytes() == alone[name][0].tobytes()
    assert row_digest(batch, row, items[row].seats) == row_digest(alone, 0, items[row].seats)


@pytest.mark.parametrize("channels", [(0, 1, -1), (-1, 1, 0), (2, 0, 1)])
@pytest.mark.parametrize(
    "bound",
    [
        mel_input(normalise={"kind": "per_sample"}),
        mel_input(receiver_padding="fill"),
        mask_input(),
        {"feature": "iq", "axes": ["batch", "receiver", "iq", "sample"], "length": 600, "pad": "reflect"},
        {"feature": "receiver_ids", "dtype": "int64", "axes": ["batch", "receiver"], "table": {"r0": 4}, "unknown": 9},
        {"feature": "receiver_features", "axes": COLUMN_AXES, "columns": [{"name": "snr_db"}, {"name": "lat"}]},
    ],
)
def test_items_filled_in_at_once_have_the_bits_of_each_alone(bound, channels):
    """Every kind of feature, whoever sits where."""
    plan = plan_of({"x": bound})
    items = [item_of(iq_of(seed, max(channels) + 1), channels) for seed in range(4)]
    one_by_one, at_once = filled(plan, *items), plan.allocate(5, 512)
    plan.fill(at_once, 1, *items)
    assert at_once["x"][1:].tobytes() == one_by_one["x"].tobytes()
    assert at_once["x"][0].tobytes() == plan.allocate(1, 512)["x"][0].tobytes()


def test_items_of_different_layouts_are_not_filled_in_at_once():
    """Their receivers would be confused."""
    plan = plan_of({"mel": mel_input()})
    items = [item_of(iq_of(0, 2)), item_of(iq_of(1, 2), (1, 0, -1))]
    with pytest.raises(ValueError, match="are not alike"):
        plan.fill(plan.allocate(2, 512), 0, *items)


@pytest.mark.parametrize(
    ("bound", "axes"),
    [
        (mel_input(), ["frame", "batch", "mel", "receiver"]),
        (mel_input(), ["batch", "frame", "receiver", "mel"]),
        (mel_input(), ["batch", "receiver", "mel", "frame"]),
        ({"feature": "iq", "length": 32}, ["batch", "receiver", "sample", "iq"]),
        ({"feature": "iq", "length": 32}, ["sample", "iq", "receiver", "batch"]),
        (
            {"feature": "receiver_features", "columns": [{"name": "snr_db"}, {"name": "lat"}]},
            ["batch", "column", "receiver"],
        ),
        (mask_input(), ["receiver", "batch"]),
    ],
)
def test_a_graph_gets_its_own_order_of_axes(bound, axes):
    """Each element lands where the graph's axes say, and in one contiguous block."""
    canonical = [a for a in ("batch", "receiver", "mel", "frame", "iq", "sample", "column") if a in axes]
    plan = plan_of({"x": bound | {"axes": axes}})
    tensors = filled(plan, item_of(iq_of(9, 2)), item_of(iq_of(10, 3), (0, 1, 2)))
    fed = plan.feed(tensors)["x"]
    letters = {axis: "abcdefg"[i] for i, axis in enumerate(canonical)}
    expected = np.einsum(
        "".join(letters[a] for a in canonical) + "->" + "".join(letters[a] for a in axes), tensors["x"].astype(float)
    )
    np.testing.assert_array_equal(fed.astype(float), expected)
    assert fed.flags.c_contiguous
    assert fed.dtype == tensors["x"].dtype


@pytest.mark.parametrize("axes", [["batch", "mel", "frame"], ["batch", "frame", "mel"], ["frame", "mel", "batch"]])
def test_a_model_of_one_receiver_may_have_no_receiver_axis(axes):
    """The single receiver's axis is dropped, whatever the order of the others."""
    plan = plan_of({"x": mel_input(axes=axes)}, receivers={"set": {"max": 1}})
    tensors = filled(plan, item_of(iq_of(11, 1), (0,)), item_of(iq_of(12, 1), (0,)))
    fed = plan.feed(tensors)["x"]
    letters = {"batch": "a", "mel": "c", "frame": "d"}
    expected = np.einsum("abcd->" + "".join(letters[a] for a in axes), tensors["x"].astype(float))
    np.testing.assert_array_equal(fed.astype(float), expected)


def test_shapes_follow_the_contract():
    """Tensors are allocated in canonical order with the contract's sizes, filled as for absent receivers."""
    plan = plan_of(
        {
            "mel": mel_input(frames=None, fill=1.0),
            "mask": mask_input(true_means="absent"),
            "iq": {"feature": "iq", "axes": ["batch", "receiver", "iq", "sample"], "length": 7, "dtype": "float64"},
            **columns_of([{"name": "lat"}, {"name": "lon"}], fill=5),
        }
    )
    tensors = plan.allocate(2, 64 + 3 * 32)
    assert {name: (t.shape, str(t.dtype)) for name, t in tensors.items()} == {
        "mel": ((2, 3, 8, 4), "float32"),
        "mask": ((2, 3), "bool"),
        "iq": ((2, 3, 2, 7), "float64"),
        "f": ((2, 3, 2), "float32"),
    }
    assert (tensors["mel"] == 1).all()
    assert tensors["mask"].all()
    assert (tensors["f"] == 5).all()


def test_only_open_frames_keep_items_apart():
    """Items share a run when their spectrograms have the same number of frames."""
    fixed, free = plan_of({"mel": mel_input()}), plan_of({"mel": mel_input(frames=None)})
    assert fixed.shape_key(512) == fixed.shape_key(9999) == (4,)
    assert free.shape_key(512) == free.shape_key(543) != free.shape_key(544)
    assert plan_of({"mask": mask_input()}).shape_key(512) == ()


def test_an_impossible_spectrogram_is_found_at_once():
    """Filters without a bin are found when the plan is made."""
    with pytest.raises(ValueError, match="filter"):
        plan_of({"mel": mel_input(n_mels=512, mel_scale="htk", fmin=0)})


def test_the_digest_of_a_row_tells_inputs_apart():
    """Names, dtypes, shapes, values and the origin all count."""
    seats = Seats((0,), (), None)
    tensors = {"a": np.zeros((1, 2), np.float32), "b": np.ones((1, 2), np.float32)}
    variants = [
        (tensors, seats),
        ({"a": tensors["b"], "b": tensors["a"]}, seats),
        ({"a": tensors["a"].astype(np.int32), "b": tensors["b"]}, seats),
        ({"a": tensors["a"].reshape(1, 2, 1), "b": tensors["b"]}, seats),
        ({"a": tensors["a"], "c": tensors["b"]}, seats),
        (tensors, Seats((0,), (), (45.0, 7.0))),
        ({"a": np.zeros((1, 0), np.float32)}, seats),
    ]
    digests = [row_digest(t, 0, s) for t, s in variants]
    assert len(set(digests)) == len(digests)
    assert {len(d) for d in digests} == {32}
    assert row_digest(dict(reversed(tensors.items())), 0, seats) == digests[0]
