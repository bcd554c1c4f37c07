"""Physics of the simulator against closed forms."""

import numpy as np
import pytest

from examples.network import NETWORKS, TORINO
from examples.propagation import (
    SHADOWING_SIGMA_DB,
    TRANSMITTED_SIGMA_DB,
    draw_present,
    draw_scenes,
    free_space_loss_db,
    mean_received_dbm,
    path_loss_db,
    thermal_noise_dbm,
)


def test_free_space_loss_is_that_of_the_handbook() -> None:
    """P.525: 32.45 + 20·lg(MHz) + 20·lg(km)."""
    assert free_space_loss_db(10_000.0, 145e6) == pytest.approx(32.45 + 20 * np.log10(145) + 20, abs=0.01)


def test_path_loss_has_its_slopes_and_is_continuous() -> None:
    """20 dB per decade up to 1 km, 10·n beyond, no step between."""
    loss = path_loss_db(np.array([200.0, 999.999, 1000.001, 10_000.0, 100_000.0]), 433e6, exponent=3.0)
    assert loss[1] - loss[0] == pytest.approx(20 * np.log10(5), abs=1e-3)
    assert loss[2] - loss[1] == pytest.approx(0.0, abs=1e-3)
    assert loss[4] - loss[3] == pytest.approx(30.0)


def test_path_loss_is_bounded_near_the_antenna() -> None:
    """A transmitter on top of a receiver is not heard with infinite power."""
    assert path_loss_db(np.array([0.0]), 145e6) == path_loss_db(np.array([100.0]), 145e6)


def test_noise_floor_is_ktb() -> None:
    """-174 dBm/Hz at 290 K, plus bandwidth and noise figure."""
    assert thermal_noise_dbm(48e3, 6.0) == pytest.approx(-173.975 + 10 * np.log10(48e3) + 6.0, abs=0.01)


def test_shadowing_has_its_spread_and_a_shared_part() -> None:
    """Residuals of received power: 4 dB of each receiver, and the transmitter's 2 dB common to all."""
    scenes = draw_scenes(TORINO, 20_000, np.random.default_rng(1))
    covariance = np.cov((scenes.received_dbm - mean_received_dbm(TORINO, scenes.truth_m)).T)
    off_diagonal = covariance[~np.eye(len(covariance), dtype=bool)]
    assert np.diag(covariance).mean() == pytest.approx(SHADOWING_SIGMA_DB**2 + TRANSMITTED_SIGMA_DB**2, rel=0.02)
    assert off_diagonal.mean() == pytest.approx(TRANSMITTED_SIGMA_DB**2, rel=0.05)


@pytest.mark.parametrize("name", NETWORKS)
def test_transmitters_fill_the_area(name: str) -> None:
    """Uniform: all inside, and their centre is the area's."""
    network = NETWORKS[name]
    truth_m = draw_scenes(network, 5_000, np.random.default_rng(2)).truth_m
    size_m = np.sqrt(network.area.area)
    assert all(network.area.covers(network.area.__class__.from_bounds(*p, *p).centroid) for p in truth_m[:50])
    assert np.allclose(truth_m.mean(axis=0), np.array(network.area.centroid.coords[0]), atol=0.03 * size_m)


def test_dropout_keeps_to_its_limit() -> None:
    """Half of the scenes are complete, the others lack one to the limit."""
    missing = (~draw_present((10_000, 7), 2, np.random.default_rng(3))).sum(axis=1)
    assert set(missing) == {0, 1, 2}
    assert np.mean(missing == 0) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("name", NETWORKS)
def test_positions_survive_the_round_trip(name: str) -> None:
    """East and north to WGS84 and back, to a millimetre."""
    network = NETWORKS[name]
    truth_m = draw_scenes(network, 100, np.random.default_rng(4)).truth_m
    assert np.allclose(network.to_enu_m(network.to_wgs84(truth_m)), truth_m, atol=1e-3)


def test_torino_receivers_stand_nine_kilometres_apart() -> None:
    """Distance to the nearest neighbour, on average."""
    sites_m = TORINO.site_positions_m[:, :2]
    distance_m = np.hypot(*(sites_m[:, np.newaxis] - sites_m).T)
    np.fill_diagonal(distance_m, np.inf)
    assert 8_000 < distance_m.min(axis=0).mean() < 10_500
