"""The shortcut of training against whole recordings; runs where PyTorch is installed."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs requirements/train.txt")

from examples import model, train  # noqa: E402 - only where PyTorch is
from examples.features import FeaturePath  # noqa: E402
from examples.model_file import contract  # noqa: E402
from examples.network import TORINO  # noqa: E402
from examples.propagation import Scenes  # noqa: E402
from examples.scenes import fresh_draws, fresh_scenes  # noqa: E402
from worker.serving.contract import ModelContract  # noqa: E402


def test_levels_from_the_bank_are_those_of_recordings() -> None:
    """Both differ from the true power by the gain error alone: mean 0, spread 0.3 dB."""
    scenes, _ = fresh_draws(TORINO, 30, 1)
    tensors = FeaturePath(ModelContract.model_validate(contract(TORINO, 1.0)))(fresh_scenes(TORINO, 30, 1))
    recorded = model.received_level(model.BandPowers()(torch.from_numpy(tensors["log_mel"]))).numpy()
    rng = np.random.default_rng(1)
    banked = train.heard_levels(train.record_bank(TORINO, rng), scenes, rng).numpy()
    for level in (recorded, banked):
        error_db = (level + model.REFERENCE_DBM - scenes.received_dbm)[scenes.present]
        assert abs(error_db.mean()) < 0.06
        assert error_db.std() == pytest.approx(0.3, abs=0.05)


def test_faint_signals_spread_alike_in_bank_and_recordings() -> None:
    """As strong as its noise, a level spreads by noise and cross terms; the bank adds its gain error."""
    rng = np.random.default_rng(2)
    count = 400
    scenes = Scenes(np.zeros((count, 2)), np.full((count, 16), -125.0), np.ones((count, 16), bool))
    banked = train.heard_levels(train.record_bank(TORINO, rng), scenes, rng).numpy()
    sent = train.fm_voice(count, 4_096, 48e3, rng) * 10 ** (-125 / 20)
    noise = train.white_noise(sent.shape, rng) * 10 ** (train.thermal_noise_dbm(48e3) / 20)
    recorded = model.received_level(torch.from_numpy(train.band_powers(sent + noise))).numpy()
    assert np.median(banked) == pytest.approx(np.median(recorded), abs=0.3)
    assert banked.std() == pytest.approx(np.hypot(recorded.std(), train.GAIN_ERROR_SIGMA_DB), rel=0.05)


def test_mixture_of_gaussians_has_their_total_covariance() -> None:
    """Mean of covariances plus covariance of means."""
    rng = np.random.default_rng(3)
    means, factors = rng.normal(size=(3, 4, 2)), np.abs(rng.normal(size=(3, 4, 3))) + 0.5
    _, cholesky = model.mixture(torch.from_numpy(means), torch.from_numpy(factors))
    lower = np.zeros((3, 4, 2, 2))
    lower[..., 0, 0], lower[..., 1, 0], lower[..., 1, 1] = np.moveaxis(factors, -1, 0)
    spread = means - means.mean(axis=0)
    total = (lower @ lower.swapaxes(-1, -2) + spread[..., :, None] * spread[..., None, :]).mean(axis=0)
    got = np.linalg.cholesky(total)
    assert np.allclose(cholesky.numpy(), np.stack([got[:, 0, 0], got[:, 1, 0], got[:, 1, 1]], axis=-1))


def test_negative_log_likelihood_is_the_gaussians() -> None:
    """Against numpy's determinant and inverse, without the constant 2π."""
    mean, factor, truth = torch.tensor([1.0, 2.0]), torch.tensor([2.0, 0.5, 1.5]), torch.tensor([2.0, 0.0])
    lower = np.array([[2.0, 0.0], [0.5, 1.5]])
    error = np.array([1.0, -2.0])
    covariance = lower @ lower.T
    wanted = 0.5 * error @ np.linalg.inv(covariance) @ error + 0.5 * np.log(np.linalg.det(covariance))
    assert model.negative_log_likelihood(mean, factor, truth).item() == pytest.approx(wanted, abs=1e-5)


def test_the_same_seed_gives_the_same_model() -> None:
    """Two short trainings agree to the bit."""
    first, second = (train.train(TORINO, 5, steps=3) for _ in range(2))
    assert first[1] == second[1]
    for a, b in zip(first[0].state_dict().values(), second[0].state_dict().values(), strict=True):
        assert torch.equal(a, b)
