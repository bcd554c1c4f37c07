"""Error ellipses of a position from the covariance of its horizontal error.

Axis order of every covariance is (east, north), in square metres. Two angles describe the major axis: `azimuth_deg`,
clockwise from true north in [0, 180), and `theta_deg`, counter-clockwise from east in (-90, 90]. They are the same
line: azimuth = (90° - theta) mod 180°. A circle has no major axis; its azimuth is 0 and its theta 90 by convention.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from schemas.job import MAX_CONFIDENCE

# A rounded singular matrix can show 1 - correlation² of up to 3.5 epsilon; below 4 it proves nothing.
_ROUNDING = 4 * float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True)
class ErrorEllipse:
    """The region that holds the true position with probability `confidence`."""

    semi_major_m: float
    semi_minor_m: float
    azimuth_deg: float
    confidence: float

    @property
    def area_m2(self) -> float:
        """Area in the tangent plane, in square metres."""
        return math.pi * self.semi_major_m * self.semi_minor_m


@dataclass(frozen=True, slots=True)
class PrincipalAxes:
    """Principal axes of a batch of covariances at 1 sigma, each array float64 of shape (B,)."""

    sigma_major_m: NDArray[np.float64]
    sigma_minor_m: NDArray[np.float64]
    azimuth_deg: NDArray[np.float64]
    theta_deg: NDArray[np.float64]


def chi_square_scale(confidence: ArrayLike) -> NDArray[np.float64]:
    """Factor k from 1-sigma axes to the axes of the ellipse of a confidence.

    The squared Mahalanobis distance in two dimensions is chi-square with two degrees of freedom, whose quantile has
    the closed form k² = -2 ln(1 - p). One sigma (k = 1) holds 39.35 %, not 68 %.

    Args:
        confidence: probabilities in (0, 0.999], any shape.

    Returns:
        float64 of the same shape.

    Raises:
        ValueError: a confidence is not in (0, 0.999].
    """
    probability = np.asarray(confidence, dtype=np.float64)
    if not np.all((probability > 0) & (probability <= MAX_CONFIDENCE)):
        raise ValueError(f"confidence must lie in (0, {MAX_CONFIDENCE}]")
    return np.asarray(np.sqrt(-2 * np.log1p(-probability)))


def is_positive_definite(covariance_m2: ArrayLike) -> NDArray[np.bool_]:
    """Which covariances describe an ellipse: finite, symmetric, and positive definite beyond rounding.

    A matrix whose correlation cannot be told from ±1 in float64 counts as singular.

    Args:
        covariance_m2: (B, 2, 2).

    Returns:
        bool of shape (B,).
    """
    covariance = np.asarray(covariance_m2, dtype=np.float64)
    ee, en, ne, nn = covariance.reshape(-1, 4).T
    with np.errstate(all="ignore"):
        asymmetry = np.abs(en - ne) / (np.sqrt(ee) * np.sqrt(nn))
        uncorrelated = 1 - (ne / ee) * (ne / nn)
        finite = np.isfinite(covariance).all(axis=(1, 2))
        return np.asarray(finite & (ee > 0) & (nn > 0) & (asymmetry <= _ROUNDING) & (uncorrelated > _ROUNDING))


def principal_axes(covariance_m2: ArrayLike) -> PrincipalAxes:
    """Decompose covariances in closed form (eigenvalues of a symmetric 2 x 2 matrix).

    The smaller eigenvalue is determinant / larger eigenvalue, which keeps its digits where the usual
    trace - larger would cancel; dividing first keeps tiny and huge variances in range.

    Args:
        covariance_m2: (B, 2, 2), m², positive definite; of the off-diagonal the lower element is read.

    Returns:
        1-sigma semi-axes in metres and both angles of the major axis, each (B,).
    """
    ee, _, en, nn = np.asarray(covariance_m2, dtype=np.float64).reshape(-1, 4).T
    half_difference = ee / 2 - nn / 2
    larger = ee / 2 + nn / 2 + np.hypot(half_difference, en)
    smaller = np.minimum(np.maximum((ee / larger) * nn - (en / larger) * en, 0), larger)
    theta_deg = _theta_deg(half_difference, en)
    return PrincipalAxes(np.sqrt(larger), np.sqrt(smaller), np.mod(90 - theta_deg, 180), theta_deg)


def _theta_deg(half_difference: NDArray[np.float64], en: NDArray[np.float64]) -> NDArray[np.float64]:
    """Angle of the major axis from east, (B,) in (-90, 90]: tan 2θ = 2 en / (ee - nn)."""
    theta_deg = np.degrees(np.arctan2(en, half_difference)) / 2
    circle = (half_difference == 0) & (en == 0)
    # arctan2 returns -180° for -0.0 and for a tiny negative covariance; as an axis that is +90° too.
    upright = circle | (theta_deg <= -90)  # noqa: PLR2004 - a right angle
    return np.where(upright, 90.0, theta_deg + 0.0)


def error_ellipses(axes: PrincipalAxes, confidences: Sequence[Sequence[float]]) -> list[list[ErrorEllipse]]:
    """Error ellipses of each fix at its own confidences, in the order asked.

    Args:
        axes: 1-sigma axes of B fixes.
        confidences: B lists of probabilities in (0, 0.999].

    Returns:
        B lists, parallel to `confidences`.

    Raises:
        ValueError: a confidence is not in (0, 0.999], or the number of lists is not B.
    """
    rows = zip(axes.sigma_major_m.tolist(), axes.sigma_minor_m.tolist(), axes.azimuth_deg.tolist(), strict=True)
    return [
        [ErrorEllipse(major * (k := _scale(p)), minor * k, azimuth, float(p)) for p in asked]
        for (major, minor, azimuth), asked in zip(rows, confidences, strict=True)
    ]


@lru_cache(maxsize=256)
def _scale(confidence: float) -> float:
    return float(chi_square_scale(confidence))
