"""The POWDER example on invented data: files, folds, training, graph and IQ; `make powder` has the real figures."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
from scipy.optimize import approx_fprime

from client.evaluation.labels import find_labelled
from client.evaluation.report import METRICS
from client.files import load
from examples.features import FeaturePath
from examples.model_file import read_contract
from examples.powder.campus import FINAL, PARTS
from examples.powder.card import CARD, markdown
from examples.powder.cells import FOLDS, cells_of, folds_of
from examples.powder.ensemble import Ensemble, Gaussians, gaussians, loss_and_slope
from examples.powder.graph import OUTPUTS
from examples.powder.iq import as_ci16, band_power, receive
from examples.powder.model_file import Campus, campus_of, export, sigmf_of
from examples.powder.recordings import write_recordings
from examples.powder.survey import ABSENT_DB, Survey, SurveyError, read_noise_floors, read_sites, read_survey
from examples.powder.training import MIN_PRESENT, Recipe, Samples, augmented, calibration_scale, train
from examples.scenes import FreshScene
from worker.serving.contract import ModelContract
from worker.serving.loading import file_digest, load_version
from worker.serving.model import VersionRecord
from worker.serving.session import SessionOptions

RECEIVERS = 9
CAMPUS = Campus(
    tuple(f"roof-{number}" for number in range(RECEIVERS)),
    40.766 + 0.002 * (np.arange(RECEIVERS) % 3),
    -111.84 + 0.003 * (np.arange(RECEIVERS) // 3),
    np.full(RECEIVERS, -95.0),
)


def invented(count: int, seed: int = 0) -> Samples:
    """Powers that fall with distance; a fifth of the receivers is absent."""
    rng = np.random.default_rng(seed)
    sites_km = CAMPUS.to_enu_m(CAMPUS.latitude_deg, CAMPUS.longitude_deg) / 1e3
    truth_km = rng.uniform(-0.4, 0.4, (count, 2))
    distance_km = np.linalg.norm(truth_km[:, np.newaxis] - sites_km, axis=-1)
    level_db = -70.0 - 30.0 * np.log10(distance_km + 0.02) + 2.0 * rng.standard_normal(distance_km.shape)
    present = rng.random(level_db.shape) < 0.8
    present[:, :MIN_PRESENT] = True
    return Samples(*(array.astype(np.float32) for array in (level_db, present, truth_km, sites_km)))


@pytest.fixture(scope="module")
def trained() -> SimpleNamespace:
    """A small locator trained on invented samples."""
    samples = invented(1_000)
    recipe = Recipe(seeds=1, hidden=16, layers=2, steps=400, batch=64)
    locator, unseen = train(samples, recipe, np.random.default_rng(1))
    return SimpleNamespace(samples=samples, recipe=recipe, locator=locator, unseen=unseen)


@pytest.fixture(scope="module")
def model(trained: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its file."""
    return export(trained.locator, CAMPUS, {"data": "invented"}, tmp_path_factory.mktemp("model") / "model.onnx")


def write_csv(path: Path, *rows: str, columns: str = "tx_x_coord,tx_y_coord") -> Path:
    """A file in the format of the samples, of three receivers."""
    path.write_text("\n".join([f"timestamp,roof-0,bus-1_rss,roof-1,{columns}", *rows]) + "\n")
    return path


def test_reads_samples_with_latitude_first(tmp_path: Path) -> None:
    """`tx_x_coord` is the latitude, -101 is absent, moving receivers and missing columns are left out."""
    path = write_csv(tmp_path / "tx.csv", "2022-11-23 13:24:40,-101,-50,-72.5,40.765,-111.835")
    survey = read_survey(path, ["roof-1", "roof-0", "roof-7"])
    assert (survey.latitude_deg.tolist(), survey.longitude_deg.tolist()) == ([40.765], [-111.835])
    assert survey.power_db.tolist() == [[-72.5, ABSENT_DB, ABSENT_DB]]
    assert survey.present.tolist() == [[True, False, False]]
    assert survey.times == ["2022-11-23 13:24:40"]


@pytest.mark.parametrize(
    ("row", "columns", "said"),
    [
        ("t,-101,-50,loud,40.7,-111.8", "tx_x_coord,tx_y_coord", "column roof-1 holds 'loud'"),
        ("t,-101,-50,nan,40.7,-111.8", "tx_x_coord,tx_y_coord", "not a finite number"),
        ("t,-101,-50,-80,40.7,-111.8", "latitude,longitude", "columns timestamp, tx_x_coord, tx_y_coord"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, row: str, columns: str, said: str) -> None:
    """The message says which file, where, and what would be right."""
    path = write_csv(tmp_path / "tx.csv", row, columns=columns)
    with pytest.raises(SurveyError, match=r"tx\.csv") as caught:
        read_survey(path, ["roof-0", "roof-1"])
    assert said in str(caught.value)


def test_reads_sites_and_noise_floors(tmp_path: Path) -> None:
    """Moving receivers have no site; a receiver without noise samples takes the median of the others."""
    sites, noise = tmp_path / "sites.json", tmp_path / "noise.json"
    sites.write_text('{"bus-1": None, "roof-0": (40.7, -111.8), "roof-1": (40.8, -111.9),}')
    noise.write_text(json.dumps({"t": {"rx_data": [[-90.0, 0, 0, "roof-0"], [-70.0, 0, 0, "bus-1"]]}}))
    assert read_sites(sites) == {"roof-0": (40.7, -111.8), "roof-1": (40.8, -111.9)}
    assert read_noise_floors(noise, ["roof-0", "roof-1"]).tolist() == [-90.0, -90.0]
    with pytest.raises(SurveyError, match=r"missing\.json"):
        read_sites(tmp_path / "missing.json")


def test_folds_hold_out_whole_cells() -> None:
    """All samples of a cell are in one fold, and folds are about equal."""
    rng = np.random.default_rng(3)
    places_m = rng.uniform(-1_000.0, 1_000.0, (3_000, 2))
    fold = folds_of(places_m, 150.0, np.random.default_rng(5))
    cell = cells_of(places_m, 150.0, np.random.default_rng(5).uniform(0.0, 150.0, 2))
    assert all(np.unique(fold[cell == one]).size == 1 for one in range(cell.max() + 1))
    assert np.bincount(fold).size == FOLDS
    assert np.ptp(np.bincount(fold)) < 100


def test_slope_of_the_loss_is_its_derivative() -> None:
    """Back-propagation agrees with finite differences in every weight, at double precision."""
    rng = np.random.default_rng(2)
    nets = Ensemble.fresh(2, 6, 4, 2, rng)
    arrays = [one.astype(np.float64) for one in nets.parameters]
    entering, anchor, truth = (
        rng.standard_normal((2, 3, 6)),
        rng.standard_normal((2, 3, 2)),
        rng.standard_normal((2, 3, 2)),
    )

    def rebuilt(flat: np.ndarray) -> Ensemble:
        ends = np.cumsum([one.size for one in arrays])[:-1]
        parts = [part.reshape(one.shape) for part, one in zip(np.split(flat, ends), arrays, strict=True)]
        return Ensemble(parts[:3], parts[3:])

    def loss(flat: np.ndarray) -> float:
        found = gaussians(rebuilt(flat)(entering), anchor)
        squared = (found.whitened(truth) ** 2).sum(axis=-1)
        return float(np.sum(np.log(found.factor[..., 0] * found.factor[..., 2]) + squared / 2))

    flat = np.concatenate([one.ravel() + 0.3 * rng.standard_normal(one.size) for one in arrays])
    raw, *record = rebuilt(flat).trace(entering)
    value, slope = loss_and_slope(raw, anchor, truth)
    found = np.concatenate([one.ravel() for one in rebuilt(flat).gradients(slope, *record)])
    assert value.sum() == pytest.approx(loss(flat), rel=1e-5)
    assert np.allclose(found, approx_fprime(flat, loss, 1e-6), rtol=1e-3, atol=1e-3)


def test_mixture_has_the_moments_of_its_draws() -> None:
    """Mean and covariance of one group agree with 400,000 draws from the mixture."""
    rng = np.random.default_rng(4)
    found = Gaussians(np.array([[[0.0, 1.0]], [[2.0, -1.0]]]), np.array([[[1.0, 0.4, 0.5]], [[0.3, -0.2, 0.8]]]))
    draws = []
    for mean, (l11, l21, l22) in zip(found.mean[:, 0], found.factor[:, 0], strict=True):
        draws.append(mean + rng.standard_normal((200_000, 2)) @ np.array([[l11, 0.0], [l21, l22]]).T)
    mixed = found.mixture()
    l11, l21, l22 = mixed.factor[0]
    factor = np.array([[l11, 0.0], [l21, l22]])
    assert np.allclose(mixed.mean[0], np.concatenate(draws).mean(axis=0), atol=0.01)
    assert np.allclose(factor @ factor.T, np.cov(np.concatenate(draws).T), atol=0.02)


def test_spread_between_groups_is_left_out() -> None:
    """Two groups that disagree are no more certain and no less than each of them."""
    found = Gaussians(
        np.array([[[0.0, 0.0]], [[0.0, 0.0]], [[9.0, 9.0]], [[9.0, 9.0]]]), np.tile([1.0, 0.0, 1.0], (4, 1, 1))
    )
    assert found.mixture(2).factor[0].tolist() == [1.0, 0.0, 1.0]
    assert found.mixture(1).factor[0, 0] == pytest.approx(np.sqrt(1 + 4.5**2))


def test_augmentation_never_leaves_too_few_receivers() -> None:
    """However much is dropped, the model is trained on what it takes, and absent receivers stay absent."""
    samples = invented(500)
    _, present = augmented(samples, Recipe(dropout=0.9), np.random.default_rng(6))
    assert present.sum(axis=1).min() >= MIN_PRESENT
    assert (present <= samples.present).all()
    assert present.sum() < samples.present.sum()


def test_training_learns_and_calibrates(trained: SimpleNamespace) -> None:
    """What each member did not see is located better than by the strongest receiver; the scale makes 90 % hold 90 %."""
    samples, unseen = trained.samples, trained.unseen
    strongest = np.where(samples.present > 0, samples.level_db, -1e3).argmax(axis=1)
    error_km = np.linalg.norm(unseen.mean - samples.truth_km, axis=1)
    by_strongest_km = np.linalg.norm(samples.sites_km[strongest] - samples.truth_km, axis=1)
    assert np.median(error_km) < 0.9 * np.median(by_strongest_km)
    scaled = Gaussians(unseen.mean, unseen.factor * trained.locator.scale)
    assert calibration_scale(scaled, samples.truth_km) == pytest.approx(1.0, abs=0.01)


def test_training_is_reproducible() -> None:
    """The same seed gives the same weights."""
    samples, recipe = invented(100), Recipe(seeds=1, hidden=8, layers=1, steps=20, batch=16)
    once, again = (train(samples, recipe, np.random.default_rng(1))[0].ensemble.parameters for _ in range(2))
    assert all(np.array_equal(one, other) for one, other in zip(once, again, strict=True))


def test_iq_has_the_measured_power() -> None:
    """In the 6 kHz filter each receiver has its power exactly, noise alone where nothing more was measured."""
    power_db = np.array([-30.0, -80.0, -97.0, -99.0])
    iq = receive(power_db, np.full(4, -97.0), np.random.default_rng(8))
    assert np.allclose(10 * np.log10(band_power(iq)), power_db, atol=1e-6)
    # White noise fills the band of 100 kHz: 12.2 dB more than the filter passes.
    total_db = 10 * np.log10(np.mean(np.abs(iq) ** 2, axis=1))
    assert total_db[3] - power_db[3] == pytest.approx(12.2, abs=2.5)
    assert total_db[0] - power_db[0] < 1.0


def test_a_worker_takes_the_model(model: Path, tmp_path: Path) -> None:
    """Digest, contract, graph and golden vectors pass the checks of serving."""
    (tmp_path / "model.onnx").write_bytes(model.read_bytes())
    record = VersionRecord("powder", "1", "production", file_digest(tmp_path / "model.onnx"), "", None, 0)
    assert len(load_version(tmp_path, record, SessionOptions(), max_batch_size=2).contract.golden) == 2


def test_graph_answers_from_iq_what_the_locator_says_of_the_powers(trained: SimpleNamespace, model: Path) -> None:
    """From quantised IQ through the worker's own preprocessing, within what half a decibel per receiver makes."""
    samples = trained.samples.rows(np.arange(60))
    rng, scenes = np.random.default_rng(9), []
    for level_db, present in zip(samples.level_db, samples.present > 0, strict=True):
        iq = receive(level_db[present].astype(np.float64), CAMPUS.noise_db[present], rng)
        scenes.append(FreshScene(sigmf_of(CAMPUS, np.flatnonzero(present).tolist(), "test"), as_ci16(iq), 0.0, 0.0))
    tensors = FeaturePath(ModelContract.model_validate(read_contract(model)))(scenes)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    position, cholesky = session.run(OUTPUTS, tensors)
    expected = trained.locator(samples.level_db, samples.present)
    away = np.linalg.norm(position - expected.mean, axis=1) / expected.factor[:, 0]
    assert np.median(away) < 0.2
    assert np.median(np.abs(cholesky / expected.factor - 1.0)[:, [0, 2]]) < 0.1


def test_recordings_carry_truth_and_cell(tmp_path: Path) -> None:
    """Each is a SigMF recording of the receivers that were present; samples with too few are left out."""
    power_db = np.full((3, RECEIVERS), -60.0)
    power_db[0, 2], power_db[1, 1:] = ABSENT_DB, ABSENT_DB
    survey = Survey(["a", "b", "c"], np.full(3, 40.767), np.array([-111.84, -111.84, -111.83]), power_db, "")
    assert write_recordings(survey, CAMPUS, [0, 1, 2], tmp_path) == 2
    first, second = find_labelled(tmp_path)
    assert (first.labels[0].truth.longitude, first.labels[0].truth.latitude) == (-111.84, 40.767)
    assert first.labels[0].block != second.labels[0].block
    capture = load(first.path).capture
    assert [one.id for one in capture.receivers] == [name for name in CAMPUS.ids if name != "roof-2"]
    assert np.allclose(10 * np.log10(band_power(capture.array().astype(complex))), -60.0, atol=0.05)


def test_committed_models_say_what_they_have_not_seen() -> None:
    """Each fold's model names its part, all were trained on one file, and the final one on all of it."""
    final = read_contract(FINAL)["card"]
    cards = {part: read_contract(part.model)["card"] for part in PARTS}
    assert final["held_out"] is None
    assert {part.name for part in PARTS} == {card["held_out"] for card in cards.values()}
    assert {card["training_sha256"] for card in cards.values()} == {final["training_sha256"]}
    for cell_m in {part.cell_m for part in PARTS}:
        left = [final["training_samples"] - cards[part]["training_samples"] for part in PARTS if part.cell_m == cell_m]
        assert sum(left) == final["training_samples"]


def test_final_model_knows_its_receivers_and_floors() -> None:
    """The evaluation of another file needs nothing but the model."""
    campus = campus_of(read_contract(FINAL))
    assert len(campus.ids) == 29
    assert (campus.noise_db < -85.0).all()


def test_card_says_what_is_real_and_where_the_figures_are_from() -> None:
    """Figures with intervals, the source, the licence notice, and what is not real."""
    figures = {name: {"value": 0.9, "low": 0.8, "high": 0.95} for name in METRICS[2:]}
    near = {"n": 4_184, "failed": 0, "figures": figures | {"median_m": {"value": 112.4, "low": 101.2, "high": 123.9}}}
    page = markdown(read_contract(FINAL)["card"], near, near)
    for said in ("112 m (101 to 124)", "90.0 % (80.0 to 95.0)", "10.5281/zenodo.7259895", "MIT License"):
        assert said in page
    assert "Received powers, geometry and truth (GPS) are real; the waveforms are not." in page


def test_committed_card_is_complete() -> None:
    """It has the licence notice of the data, and its pictures are there."""
    text = CARD.read_text("utf-8")
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
    assert "Permission is hereby granted, free of charge" in text
    assert len(pictures) == 4
    assert all((CARD.parent / picture).is_file() for picture in pictures)
