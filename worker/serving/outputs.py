"""From the raw outputs of a graph to positions and covariances, as the contract says. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from worker.geo.ellipse import is_positive_definite
from worker.geo.wgs84 import enu_to_wgs84, metres_per_degree, normalise_longitude, plane_to_wgs84
from worker.serving.contract import ModelContract

Outputs = Mapping[str, NDArray[np.generic]]

# Place of each position axis in the covariance, whose order is (east, north).
_COVARIANCE_AXIS: Final = {"longitude": 0, "east": 0, "latitude": 1, "north": 1}
FARTHEST_M: Final = 2.01e7
"""Half the Earth's circumference and a little more (a meridian's half is 20,004 km, the equator's 20,038): no place is
further from another, and no fix can be further off."""
NOT_FINITE: Final = "the model's position is not finite"
_OUTPUT_COMPONENTS: Final = {"cholesky": (3,), "sigma_rho": (3,)}


@dataclass(frozen=True, slots=True)
class Fixes:
    """Positions of a batch.

    Attributes:
        latitude_deg, longitude_deg: (B,) float64, WGS84.
        covariance_m2: (B, 2, 2) float64, order east, north.
        confidence: (B,) float64 in 0..1, or None where the model gives none.
        faults: per item why it is no valid position; None = it is valid.
    """

    latitude_deg: NDArray[np.float64]
    longitude_deg: NDArray[np.float64]
    covariance_m2: NDArray[np.float64]
    confidence: NDArray[np.float64] | None
    faults: tuple[str | None, ...]

    def fix(self, item: int) -> "Fix":
        """One of them."""
        confidence = None if self.confidence is None else float(self.confidence[item])
        return Fix(
            float(self.latitude_deg[item]), float(self.longitude_deg[item]), self.covariance_m2[item], confidence
        )


@dataclass(frozen=True, slots=True)
class Fix:
    """One valid position: degrees, and a (2, 2) covariance in square metres, order east, north."""

    latitude_deg: float
    longitude_deg: float
    covariance_m2: NDArray[np.float64]
    confidence: float | None


def read_outputs(contract: ModelContract, outputs: Outputs, origins: Sequence[tuple[float, float] | None]) -> Fixes:
    """Read the raw outputs of a batch.

    Args:
        contract: the model's.
        outputs: name → (B, …) arrays.
        origins: per item (latitude, longitude) of relative positions; None for absolute ones.

    Returns:
        One fix per item; items that are no valid position carry their fault.

    Raises:
        ValueError: an output has another number of components per item than it should.
    """
    n_items = len(origins)
    origin = np.array([o or (0.0, 0.0) for o in origins], dtype=np.float64).reshape(n_items, 2)
    raw = np.asarray(outputs[contract.position.output], dtype=np.float64).reshape(n_items, 2)
    with np.errstate(all="ignore"):  # What is not finite is reported per item below.
        latitude, longitude = _positions(contract, raw, origin)
        covariance = _covariances(contract, outputs, latitude)
    confidence = None
    if contract.confidence is not None:
        confidence = np.asarray(outputs[contract.confidence.output], dtype=np.float64).reshape(n_items)
    return Fixes(latitude, longitude, covariance, confidence, _faults(raw, latitude, longitude, covariance, confidence))


def _positions(
    contract: ModelContract, raw: NDArray[np.float64], origin: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    position = contract.position
    placed = zip(position.axes, raw.T, position.scale, position.offset, strict=True)
    values = {_COVARIANCE_AXIS[axis]: column * scale + offset for axis, column, scale, offset in placed}
    east, north = values[0], values[1]
    if position.frame == "enu_m":
        # Further on, a geodesic goes round the Earth, and any number would be a position.
        north = np.where(np.hypot(east, north) <= FARTHEST_M, north, np.nan)
        if position.metres_per_degree is None:
            return _moved(origin, east, north)
        return plane_to_wgs84(origin[:, 0], origin[:, 1], east, north, position.metres_per_degree)
    if position.frame != "wgs84_deg":
        north, east = origin[:, 0] + north, origin[:, 1] + east
    return north, normalise_longitude(east)


def _moved(
    origin: NDArray[np.float64], east: NDArray[np.float64], north: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    finite = np.isfinite(east) & np.isfinite(north)
    latitude, longitude = enu_to_wgs84(
        origin[:, 0], origin[:, 1], np.where(finite, east, 0.0), np.where(finite, north, 0.0)
    )
    return np.where(finite, latitude, np.nan), np.where(finite, longitude, np.nan)


def _covariances(contract: ModelContract, outputs: Outputs, latitude: NDArray[np.float64]) -> NDArray[np.float64]:
    raw = np.asarray(outputs[contract.uncertainty.output], dtype=np.float64).reshape(len(latitude), -1)
    check_components(contract, raw.shape[1])
    elements = _raw_covariance(contract, raw)
    scale = [factor * contract.uncertainty.scale for factor in contract.position.scale]
    first, second = (s * m for s, m in zip(scale, _metres(contract, latitude), strict=True))
    covariance = np.empty((len(latitude), 2, 2))
    i, j = (_COVARIANCE_AXIS[axis] for axis in contract.position.axes)
    covariance[:, i, i] = elements[0] * (first * first)
    covariance[:, j, j] = elements[2] * (second * second)
    # Adding 0 turns -0.0, which JSON would show, into 0.0.
    covariance[:, 0, 1] = covariance[:, 1, 0] = elements[1] * (first * second) + 0.0
    return covariance


def _metres(contract: ModelContract, latitude: NDArray[np.float64]) -> list[NDArray[np.float64] | float]:
    """Metres per unit of the scaled position, for each axis in the contract's order: (B,), or the same for all."""
    if contract.position.frame == "enu_m":
        return [1.0, 1.0]
    if contract.position.metres_per_degree is not None:
        north_m, east_m = contract.position.metres_per_degree
        per_axis: dict[int, NDArray[np.float64] | float] = {1: north_m, 0: east_m}
    else:
        usable = np.where(np.abs(latitude) <= 90.0, latitude, 0.0)  # noqa: PLR2004 - beyond it the fix is at fault
        per_axis = dict(zip((1, 0), metres_per_degree(usable), strict=True))
    return [per_axis[_COVARIANCE_AXIS[axis]] for axis in contract.position.axes]


def _raw_covariance(
    contract: ModelContract, raw: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64] | float, NDArray[np.float64]]:
    """Variance of the first axis, covariance, variance of the second, each (B,), in the contract's order and units."""
    columns = raw.T
    match contract.uncertainty.kind:
        case "cholesky":
            return columns[0] ** 2, columns[0] * columns[1], columns[1] ** 2 + columns[2] ** 2
        case "sigma_rho":
            return columns[0] ** 2, columns[0] * columns[1] * columns[2], columns[1] ** 2
        case "sigma":
            variance = columns**2
        case "log_variance":
            variance = np.exp(columns)
        case "variance":
            variance = columns
    if contract.uncertainty.of == "total":
        variance = variance / 2.0
    return variance[0], 0.0, variance[-1]


def expected_components(contract: ModelContract) -> tuple[int, ...]:
    """Which numbers of components the uncertainty output may have per item."""
    return _OUTPUT_COMPONENTS.get(contract.uncertainty.kind, (1, 2))


def check_components(contract: ModelContract, found: int) -> None:
    """Refuse an uncertainty output with another number of components per item than its kind has.

    Raises:
        ValueError: with both.
    """
    allowed = expected_components(contract)
    if found not in allowed:
        raise ValueError(
            f"output {contract.uncertainty.output!r} has {found} components; "
            f"{contract.uncertainty.kind} has {' or '.join(map(str, allowed))}"
        )


def _faults(
    raw: NDArray[np.float64],
    latitude: NDArray[np.float64],
    longitude: NDArray[np.float64],
    covariance: NDArray[np.float64],
    confidence: NDArray[np.float64] | None,
) -> tuple[str | None, ...]:
    finite = np.isfinite(latitude) & np.isfinite(longitude)
    on_earth = finite & (np.abs(latitude) <= 90.0)  # noqa: PLR2004 - the poles
    definite = is_positive_definite(covariance)
    with np.errstate(all="ignore"):
        meaningful = covariance[:, 0, 0] + covariance[:, 1, 1] <= FARTHEST_M**2
    sure = np.ones(len(latitude), dtype=bool) if confidence is None else (confidence >= 0) & (confidence <= 1)
    if (on_earth & definite & meaningful & sure).all():
        return (None,) * len(latitude)
    return tuple(
        NOT_FINITE
        if not np.isfinite(raw[i]).all()
        else "the model's position is further from its origin than any place on Earth"
        if not finite[i]
        else f"the model's position is no place on Earth (latitude {latitude[i]:g})"
        if not on_earth[i]
        else "the model's covariance is not positive definite"
        if not definite[i]
        else f"the model's uncertainty is larger than the Earth ({FARTHEST_M:g} m)"
        if not meaningful[i]
        else "the model's confidence is not within 0..1"
        if not sure[i]
        else None
        for i in range(len(latitude))
    )
