"""Physics of a scene: transmitters in an area, and the power with which each receiver hears them.

Received power (dBm) = transmitted power - path loss + shadowing.

- Path loss is the log-distance model: free space up to 1 km, from there 10·n dB per decade (Rappaport, Wireless
  Communications, 2nd ed., eq. 4.69). n = 2.3: receivers on hills and masts.
- Free-space path loss is 20·lg(4πdf/c) (ITU-R P.525-4, eq. 4).
- Shadowing is log-normal, independent from receiver to receiver.
- Transmitters are handhelds of about 1 W whose effective power is known to a few dB only.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import shapely

from examples.network import Array, Network

SPEED_OF_LIGHT_M_S: Final = 299_792_458.0
BOLTZMANN_J_K: Final = 1.380649e-23
NOISE_TEMPERATURE_K: Final = 290.0

TRANSMITTED_DBM: Final = 30.0
TRANSMITTED_SIGMA_DB: Final = 2.0
SHADOWING_SIGMA_DB: Final = 4.0
PATH_LOSS_EXPONENT: Final = 2.3
REFERENCE_DISTANCE_M: Final = 1_000.0
# Nearer than this the far field of a log-distance law says nothing.
LEAST_DISTANCE_M: Final = 100.0
NOISE_FIGURE_DB: Final = 6.0


@dataclass(frozen=True, slots=True)
class Scenes:
    """Transmitters and how they are heard.

    Attributes:
        truth_m: east and north, metres (n, 2).
        received_dbm: true power at each antenna, shadowing included (n, R).
        present: which receivers take part (n, R).
    """

    truth_m: Array
    received_dbm: Array
    present: npt.NDArray[np.bool_]


def free_space_loss_db(distance_m: Array | float, frequency_hz: float) -> Array:
    """Free-space path loss between isotropic antennas, dB (ITU-R P.525-4)."""
    return np.asarray(20.0 * np.log10(4.0 * np.pi * np.asarray(distance_m) * frequency_hz / SPEED_OF_LIGHT_M_S))


def path_loss_db(distance_m: Array, frequency_hz: float, exponent: float = PATH_LOSS_EXPONENT) -> Array:
    """Log-distance path loss, dB: free space to 1 km, 10·n dB per decade beyond."""
    distance_m = np.maximum(distance_m, LEAST_DISTANCE_M)
    beyond = np.maximum(distance_m / REFERENCE_DISTANCE_M, 1.0)
    near_m = np.minimum(distance_m, REFERENCE_DISTANCE_M)
    return free_space_loss_db(near_m, frequency_hz) + 10.0 * exponent * np.log10(beyond)


def thermal_noise_dbm(bandwidth_hz: float, noise_figure_db: float = NOISE_FIGURE_DB) -> float:
    """Noise power kTB of a receiver, referred to its antenna, dBm."""
    return float(10.0 * np.log10(BOLTZMANN_J_K * NOISE_TEMPERATURE_K * bandwidth_hz * 1e3)) + noise_figure_db


def distances_m(network: Network, position_m: Array) -> Array:
    """Slant distance from positions (n, 2) to every receiver, metres (n, R)."""
    horizontal = position_m[:, np.newaxis, :] - network.site_positions_m[np.newaxis, :, :2]
    height = network.site_positions_m[:, 2] - network.ground_m
    return np.asarray(np.sqrt(np.sum(horizontal**2, axis=-1) + height**2))


def mean_received_dbm(network: Network, position_m: Array) -> Array:
    """Expected power at every receiver of a transmitter at positions (n, 2), dBm (n, R)."""
    return TRANSMITTED_DBM - path_loss_db(distances_m(network, position_m), network.frequency_hz)


def draw_positions_m(network: Network, count: int, rng: np.random.Generator) -> Array:
    """Positions uniform over the network's area, metres (count, 2)."""
    west, south, east, north = network.area.bounds
    kept: list[Array] = []
    while sum(map(len, kept)) < count:
        tried = rng.uniform((west, south), (east, north), (2 * count, 2))
        kept.append(tried[shapely.contains_xy(network.area, tried)])
    return np.concatenate(kept)[:count]


def draw_present(
    shape: tuple[int, int], max_missing: int, rng: np.random.Generator, complete: float = 0.5
) -> npt.NDArray[np.bool_]:
    """Which receivers take part: all of them in a share `complete` of scenes, else 1 … max_missing are absent."""
    count, receivers = shape
    missing = np.where(rng.random(count) < complete, 0, rng.integers(1, max_missing + 1, count))
    rank = np.argsort(rng.random((count, receivers)), axis=1)
    return np.asarray(rank >= missing[:, np.newaxis])


def draw_scenes(network: Network, count: int, rng: np.random.Generator) -> Scenes:
    """Fresh scenes of a network."""
    truth_m = draw_positions_m(network, count, rng)
    received = mean_received_dbm(network, truth_m)
    received += TRANSMITTED_SIGMA_DB * rng.standard_normal((count, 1))
    received += SHADOWING_SIGMA_DB * rng.standard_normal(received.shape)
    return Scenes(truth_m, received, draw_present(received.shape, network.max_missing, rng))
