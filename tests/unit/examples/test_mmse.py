"""The bound on location from powers."""

import numpy as np
import pytest

from examples.mmse import errors_m, grid_m, log_likelihood
from examples.network import NETWORKS, NORTHWEST
from examples.propagation import SHADOWING_SIGMA_DB, TRANSMITTED_SIGMA_DB, draw_scenes, mean_received_dbm


def test_log_likelihood_is_the_gaussian_of_its_covariance() -> None:
    """The closed form equals the dense one over the receivers that are present, up to a constant."""
    scenes = draw_scenes(NORTHWEST, 5, np.random.default_rng(1))
    expected_dbm = mean_received_dbm(NORTHWEST, grid_m(NORTHWEST, 40))
    fast = log_likelihood(scenes, expected_dbm)
    for scene in range(5):
        here = scenes.present[scene]
        residual = scenes.received_dbm[scene, here] - expected_dbm[:, here]
        covariance = SHADOWING_SIGMA_DB**2 * np.eye(here.sum()) + TRANSMITTED_SIGMA_DB**2
        dense = -0.5 * np.einsum("gi,ij,gj->g", residual, np.linalg.inv(covariance), residual)
        assert np.allclose(fast[scene] - fast[scene, 0], dense - dense[0])


@pytest.mark.parametrize(("name", "median_km"), [("torino", 2.5), ("northwest", 14.8)])
def test_bound_of_the_networks(name: str, median_km: float) -> None:
    """The figure that the model cards compare with (simulated)."""
    scenes = draw_scenes(NETWORKS[name], 2_000, np.random.default_rng(2))
    assert np.median(errors_m(NETWORKS[name], scenes)) / 1e3 == pytest.approx(median_km, rel=0.08)
