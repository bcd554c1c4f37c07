"""The bound: no estimate from powers alone has a smaller mean square error than the posterior mean.

The posterior is computed on a grid over the network's area (the scenes' own prior) from the true received powers:
without noise, gain errors, or a recording in between. A model that hears the powers through IQ can only come near it.

    python -m examples.mmse --network torino
"""

import argparse
from typing import Final

import numpy as np
import shapely

from examples.network import NETWORKS, Array, Network
from examples.propagation import SHADOWING_SIGMA_DB, TRANSMITTED_SIGMA_DB, Scenes, draw_scenes, mean_received_dbm

_CHUNK: Final = 250
_GRID_POINTS: Final = 20_000


def grid_m(network: Network, points: int = _GRID_POINTS) -> Array:
    """A square grid over the area, metres (about `points`, 2)."""
    west, south, east, north = network.area.bounds
    step = float(np.sqrt(network.area.area / points))
    square = np.stack(np.meshgrid(np.arange(west, east, step), np.arange(south, north, step)), axis=-1).reshape(-1, 2)
    return np.asarray(square[shapely.contains_xy(network.area, square)])


def log_likelihood(scenes: Scenes, expected_dbm: Array) -> Array:
    """Log-likelihood of each scene's powers at each grid point, up to a constant (n, points).

    Residuals have the covariance s²·I + t²·11ᵀ: shadowing s per receiver, and a transmitted power known to t, which all
    receivers share. The Sherman-Morrison formula inverts it over the receivers that are present.

    Args:
        scenes: n of them.
        expected_dbm: mean power at each grid point (points, R).
    """
    present = scenes.present.astype(float)
    heard = np.where(scenes.present, scenes.received_dbm, 0.0)
    squares = (heard**2).sum(1, keepdims=True) - 2.0 * heard @ expected_dbm.T + present @ (expected_dbm**2).T
    total = heard.sum(1, keepdims=True) - present @ expected_dbm.T
    s2, t2 = SHADOWING_SIGMA_DB**2, TRANSMITTED_SIGMA_DB**2
    shared = t2 / (s2 + present.sum(1, keepdims=True) * t2)
    return np.asarray(-0.5 / s2 * (squares - shared * total**2))


def posterior_mean_m(network: Network, scenes: Scenes) -> Array:
    """The estimate of least mean square error from the true powers, metres (n, 2)."""
    grid = grid_m(network)
    expected_dbm = mean_received_dbm(network, grid)
    estimates = []
    for start in range(0, len(scenes.truth_m), _CHUNK):
        part = slice(start, start + _CHUNK)
        chunk = Scenes(scenes.truth_m[part], scenes.received_dbm[part], scenes.present[part])
        log_p = log_likelihood(chunk, expected_dbm)
        weight = np.exp(log_p - log_p.max(axis=1, keepdims=True))
        estimates.append(weight @ grid / weight.sum(axis=1, keepdims=True))
    return np.concatenate(estimates)


def errors_m(network: Network, scenes: Scenes) -> Array:
    """Distance of the estimate of least mean square error from the truth, metres (n,)."""
    return np.asarray(np.hypot(*(posterior_mean_m(network, scenes) - scenes.truth_m).T))


def main() -> None:
    """Print the bound on fresh scenes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=sorted(NETWORKS), default="torino")
    parser.add_argument("--scenes", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    network = NETWORKS[arguments.network]
    scenes = draw_scenes(network, arguments.scenes, np.random.default_rng(arguments.seed))
    error_km = errors_m(network, scenes) / 1e3
    print(
        f"simulated, {network.name}, {arguments.scenes} scenes: median {np.median(error_km):.2f} km, "
        f"rms {np.sqrt(np.mean(error_km**2)):.2f} km from the true powers"
    )


if __name__ == "__main__":
    main()
