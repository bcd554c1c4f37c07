"""The locator: levels of fixed receivers to a position with a covariance, by an ensemble of small networks.

    levels, presence ─→ (level + 80)/15 where present, presence, power-weighted centroids ─→ networks ─→ mixture

Each member gives a Gaussian: an offset from one of the centroids and a Cholesky factor. The answer has the mean of
their equal mixture. Its covariance is that of the members' own Gaussians and of their spread within a group, averaged
over groups: members of one group were trained without the same fold, and calibration sees the spread of those alone
that did not see a sample. The spread between groups would come on top of what was calibrated: ellipses would be too
wide.

Lengths are kilometres. Arrays carry members first, group by group: (M, n, …).
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Self

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

LEVEL_OFFSET_DB: Final = 80.0
LEVEL_SCALE_DB: Final = 15.0
CENTROID_POWERS: Final = (0.1, 0.3, 1.0)
ANCHOR: Final = 1
"""Which centroid the offset counts from."""
OUTPUTS: Final = 5
LEAST_SIGMA_KM: Final = 0.02
NEPER_PER_DB: Final = float(np.log(10.0) / 10.0)


def features(level_db: Floats, present: Floats, sites_km: Floats) -> tuple[Floats, Floats]:
    """Inputs of the networks.

    Args:
        level_db: of each receiver; any number where absent (…, R).
        present: 1 or 0 (…, R).
        sites_km: east and north of the receivers (R, 2).

    Returns:
        Inputs (…, 2·R + 2·centroids), and the centroid that offsets count from (…, 2).
    """
    strongest = np.where(present > 0, level_db, -1e3).max(axis=-1, keepdims=True)
    relative = (level_db - strongest) * present
    centroids = []
    for power in CENTROID_POWERS:
        weight = present * np.exp(relative * np.float32(power * NEPER_PER_DB))
        centroids.append((weight @ sites_km) / weight.sum(axis=-1, keepdims=True))
    scaled = (level_db + LEVEL_OFFSET_DB) / LEVEL_SCALE_DB * present
    return np.concatenate([scaled, present, *centroids], axis=-1).astype(np.float32), centroids[ANCHOR]


def sigmoid(x: Floats) -> Floats:
    """1/(1 + exp(-x)), without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))


@dataclass(frozen=True)
class Ensemble:
    """Weights of M networks: silu between layers, none after the last.

    Attributes:
        weights: of each layer (M, inputs, outputs).
        biases: of each layer (M, 1, outputs).
    """

    weights: list[Floats]
    biases: list[Floats]

    @classmethod
    def fresh(cls, members: int, inputs: int, hidden: int, layers: int, rng: np.random.Generator) -> Self:
        """Random weights; the last layer starts near zero, at the centroid."""
        widths = [inputs, *([hidden] * layers), OUTPUTS]
        gains = [2.0] * layers + [0.01]
        weights = [
            (rng.standard_normal((members, a, b)) * np.sqrt(gain / a)).astype(np.float32)
            for (a, b), gain in zip(pairwise(widths), gains, strict=True)
        ]
        return cls(weights, [np.zeros((members, 1, b), np.float32) for b in widths[1:]])

    @property
    def parameters(self) -> list[Floats]:
        """Every array, weights first."""
        return [*self.weights, *self.biases]

    def members(self, rows: slice) -> "Ensemble":
        """Some of the members."""
        return Ensemble([one[rows] for one in self.weights], [one[rows] for one in self.biases])

    def rounded(self) -> "Ensemble":
        """The same at half precision, as the model file holds it."""
        halved = [[one.astype(np.float16).astype(np.float32) for one in kind] for kind in (self.weights, self.biases)]
        return Ensemble(*halved)

    def __call__(self, inputs: Floats) -> Floats:
        """Raw outputs (M, n, 5) of inputs (M or 1, n, inputs)."""
        return self.trace(inputs)[0]

    def trace(self, inputs: Floats) -> tuple[Floats, list[Floats], list[Floats]]:
        """Raw outputs, what went into each layer, and what the hidden layers gave before their silu."""
        entering, before, x = [], [], inputs
        for weight, bias in zip(self.weights, self.biases, strict=True):
            entering.append(x)
            x = np.matmul(x, weight) + bias
            if weight is not self.weights[-1]:
                before.append(x)
                x = x * sigmoid(x)
        return x, entering, before

    def gradients(self, slope: Floats, entering: list[Floats], before: list[Floats]) -> list[Floats]:
        """Slopes of a loss in `parameters` from its slope in the raw outputs (M, n, 5), by `trace`'s record."""
        of_weights: list[Floats] = []
        of_biases: list[Floats] = []
        for layer in reversed(range(len(self.weights))):
            of_weights.insert(0, np.matmul(entering[layer].swapaxes(1, 2), slope))
            of_biases.insert(0, slope.sum(axis=1, keepdims=True))
            if layer:
                z = before[layer - 1]
                gate = sigmoid(z)
                slope = np.matmul(slope, self.weights[layer].swapaxes(1, 2)) * (gate * (1.0 + z * (1.0 - gate)))
        return [*of_weights, *of_biases]


@dataclass(frozen=True)
class Gaussians:
    """Means (…, 2) and Cholesky factors l11, l21, l22 (…, 3), kilometres."""

    mean: Floats
    factor: Floats

    def mixture(self, groups: int = 1) -> "Gaussians":
        """Mean of the equal mixture over the first axis, and the mean over groups of each group's covariance.

        With one group this is the law of total covariance.
        """
        mean, own = self.mean.mean(axis=0), self.mean.reshape(groups, -1, *self.mean.shape[1:])
        east, north = np.moveaxis((own - own.mean(axis=1, keepdims=True)).reshape(self.mean.shape), -1, 0)
        l11, l21, l22 = np.moveaxis(self.factor, -1, 0)
        first = np.sqrt((l11**2 + east**2).mean(axis=0))
        below = (l11 * l21 + east * north).mean(axis=0) / first
        second = np.sqrt((l21**2 + l22**2 + north**2).mean(axis=0) - below**2)
        return Gaussians(mean, np.stack([first, below, second], axis=-1))

    def whitened(self, truth_km: Floats) -> Floats:
        """L⁻¹·(truth - mean): standard normal where the Gaussians are right (…, 2)."""
        east, north = np.moveaxis(truth_km - self.mean, -1, 0)
        first = east / self.factor[..., 0]
        return np.stack([first, (north - self.factor[..., 1] * first) / self.factor[..., 2]], axis=-1)


def gaussians(raw: Floats, anchor: Floats) -> Gaussians:
    """Read raw outputs (…, 5): offset east and north, two diagonal entries through softplus, and l21."""
    diagonal = np.logaddexp(0.0, raw[..., 2:4]) + np.float32(LEAST_SIGMA_KM)
    return Gaussians(anchor + raw[..., :2], np.stack([diagonal[..., 0], raw[..., 4], diagonal[..., 1]], axis=-1))


def loss_and_slope(raw: Floats, anchor: Floats, truth_km: Floats) -> tuple[Floats, Floats]:
    """Gaussian negative log-likelihood without its constant (…), and its slope in the raw outputs (…, 5).

    With z = L⁻¹(truth - mean) and a = L⁻ᵀ z: d/d mean = -a, d/d L = diag(1/l) - a zᵀ on and below the diagonal.
    """
    found = gaussians(raw, anchor)
    l11, l21, l22 = np.moveaxis(found.factor, -1, 0)
    z1, z2 = np.moveaxis(found.whitened(truth_km), -1, 0)
    a2 = z2 / l22
    a1 = (z1 - l21 * a2) / l11
    opening = sigmoid(raw[..., 2:4])
    of_l11, of_l22 = (1.0 / l11 - a1 * z1) * opening[..., 0], (1.0 / l22 - a2 * z2) * opening[..., 1]
    return np.log(l11 * l22) + 0.5 * (z1**2 + z2**2), np.stack([-a1, -a2, of_l11, of_l22, -a2 * z1], axis=-1)
