"""Scores of fixes against the truth: pure functions of arrays, one row per scene.

A fix is a Gaussian: position and covariance. With e the offset of the truth from the fix (east, north) and S the
covariance, the squared Mahalanobis distance d² = eᵀ S⁻¹ e of a calibrated fix is chi-square with two degrees of
freedom, so P(d² ≤ x) = 1 - exp(-x/2).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CONFIDENCES: Final = (0.39, 0.5, 0.9, 0.95)
"""Of the coverages; 0.39 is the 1-sigma ellipse: 1 - exp(-1/2)."""


@dataclass(frozen=True)
class Scores:
    """Scores of n fixes.

    Attributes:
        offset_m: truth minus fix, east and north (n, 2).
        covariance_m2: of the fixes, positive definite (n, 2, 2).
    """

    offset_m: Array
    covariance_m2: Array

    @cached_property
    def error_m(self) -> Array:
        """Distance of the truth from the fix (n,)."""
        return np.asarray(np.hypot(self.offset_m[:, 0], self.offset_m[:, 1]))

    @cached_property
    def squared(self) -> Array:
        """Squared Mahalanobis distance d² (n,)."""
        whitened = np.linalg.solve(self.covariance_m2, self.offset_m[..., np.newaxis])[..., 0]
        return np.asarray((self.offset_m * whitened).sum(axis=1))

    @cached_property
    def pit(self) -> Array:
        """Probability integral transform of d² (n,): uniform in 0 … 1 where the ellipses are right."""
        return np.asarray(-np.expm1(-self.squared / 2))

    @cached_property
    def nll(self) -> Array:
        """Negative logarithm of the density that the fix gives the truth, nats for a density per m² (n,)."""
        return np.asarray(np.log(2 * np.pi) + np.log(np.linalg.det(self.covariance_m2)) / 2 + self.squared / 2)

    def covered(self, confidence: float) -> NDArray[np.bool_]:
        """Which ellipses of a confidence hold the truth (n,)."""
        return np.asarray(self.squared <= -2 * np.log1p(-confidence))


def pit_distance(pit: Array) -> float:
    """Kolmogorov-Smirnov distance of PIT values from uniform: 0 none, 1 complete."""
    ordered, n = np.sort(pit), pit.size
    steps = np.arange(n + 1) / n
    return float(max(np.max(steps[1:] - ordered), np.max(ordered - steps[:-1])))
