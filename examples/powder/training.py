"""Training and calibration: an ensemble over folds and seeds, and one scale of its ellipses."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from examples.powder.cells import CELL_M, FOLDS, Rows, folds_of
from examples.powder.ensemble import Ensemble, Floats, Gaussians, features, gaussians, loss_and_slope

MIN_PRESENT: Final = 5
_ADAM: Final = (0.9, 0.999, 1e-8)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model is trained.

    Attributes:
        seeds: members per fold.
        hidden: width of the hidden layers.
        layers: number of hidden layers.
        steps: of Adam.
        batch: samples per member and step.
        learning_rate: at its peak: linear warm-up, then half a cosine down to zero.
        weight_decay: decoupled, per step at the peak rate.
        common_db: sigma of what is added to all levels of a sample: transmitters differ.
        each_db: sigma of what is added to each level: places, cars and people differ.
        dropout: most receivers are left out at this rate; each sample draws its own below it.
    """

    seeds: int = 2
    hidden: int = 64
    layers: int = 3
    steps: int = 3_000
    batch: int = 128
    learning_rate: float = 5e-3
    weight_decay: float = 1e-2
    common_db: float = 1.5
    each_db: float = 2.25
    dropout: float = 0.3


@dataclass(frozen=True)
class Samples:
    """What a model learns from: levels dB (n, R), presence (n, R), truth km (n, 2), receivers km (R, 2)."""

    level_db: Floats
    present: Floats
    truth_km: Floats
    sites_km: Floats

    def __len__(self) -> int:
        return len(self.truth_km)

    def rows(self, chosen: Rows | npt.NDArray[np.bool_]) -> "Samples":
        """Some of the samples."""
        return Samples(self.level_db[chosen], self.present[chosen], self.truth_km[chosen], self.sites_km)


@dataclass(frozen=True)
class Locator:
    """A trained ensemble and the factor on its standard deviations."""

    ensemble: Ensemble
    sites_km: Floats
    scale: float

    def __call__(self, level_db: Floats, present: Floats) -> Gaussians:
        """The members' mixture, before the scale: of levels (n, R) and presence (n, R)."""
        return each_member(self.ensemble, level_db, present, self.sites_km).mixture(FOLDS)


def each_member(ensemble: Ensemble, level_db: Floats, present: Floats, sites_km: Floats) -> Gaussians:
    """Every member's Gaussian of the same samples (M, n, …)."""
    inputs, anchor = features(level_db, present, sites_km)
    return gaussians(ensemble(inputs[np.newaxis]), anchor)


def fit(samples: Samples, taken: list[Rows], recipe: Recipe, rng: np.random.Generator) -> Ensemble:
    """Train one member on each set of rows.

    Args:
        samples: of all members.
        taken: rows of each member.
        recipe: how.
        rng: of weights, batches and augmentation.
    """
    inputs = features(samples.level_db[:1], samples.present[:1], samples.sites_km)[0].shape[-1]
    ensemble = Ensemble.fresh(len(taken), inputs, recipe.hidden, recipe.layers, rng)
    adam = _Adam(ensemble.parameters, recipe)
    for step in range(recipe.steps):
        rows = np.stack([chosen[rng.integers(0, chosen.size, recipe.batch)] for chosen in taken])
        entering, anchor = features(*augmented(samples.rows(rows), recipe, rng), samples.sites_km)
        raw, *record = ensemble.trace(entering)
        slope = loss_and_slope(raw, anchor, samples.truth_km[rows])[1]
        adam.step(step, ensemble.gradients((slope / recipe.batch).astype(np.float32), *record))
    return ensemble.rounded()


def augmented(samples: Samples, recipe: Recipe, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Levels and presence as another day might have given them; `MIN_PRESENT` receivers always stay."""
    shape = samples.level_db.shape
    common = recipe.common_db * rng.standard_normal((*shape[:-1], 1), np.float32)
    level_db = samples.level_db + common + recipe.each_db * rng.standard_normal(shape, np.float32)
    rate = recipe.dropout * rng.random((*shape[:-1], 1), np.float32)
    kept = samples.present * (rng.random(shape, np.float32) >= rate)
    enough = kept.sum(axis=-1, keepdims=True) >= MIN_PRESENT
    return level_db.astype(np.float32), np.where(enough, kept, samples.present).astype(np.float32)


class _Adam:
    """Adam with decoupled weight decay; the gradient of each member is clipped to length 1."""

    def __init__(self, parameters: list[Floats], recipe: Recipe) -> None:
        self._parameters, self._recipe = parameters, recipe
        self._moments = [(np.zeros_like(one), np.zeros_like(one)) for one in parameters]

    def step(self, number: int, gradients: list[Floats]) -> None:
        """Change the parameters in place."""
        length = np.sqrt(sum((one**2).sum(axis=(1, 2), keepdims=True) for one in gradients))
        factor = np.minimum(1.0, 1.0 / length).astype(np.float32)
        rate = self._recipe.learning_rate * _schedule(number, self._recipe.steps)
        for parameter, moments, gradient in zip(self._parameters, self._moments, gradients, strict=True):
            is_weight = parameter.shape[1] > 1
            np.multiply(parameter, 1.0 - rate * self._recipe.weight_decay * is_weight, out=parameter)
            np.subtract(parameter, rate * _direction(gradient * factor, moments, number), out=parameter)


def _direction(gradient: Floats, moments: tuple[Floats, Floats], number: int) -> Floats:
    """Adam's step of rate 1, after taking a gradient into its running moments in place."""
    (beta1, beta2, least), (first, second) = _ADAM, moments
    np.add(beta1 * first, (1.0 - beta1) * gradient, out=first)
    np.add(beta2 * second, (1.0 - beta2) * gradient**2, out=second)
    grown1, grown2 = 1.0 - beta1 ** (number + 1), 1.0 - beta2 ** (number + 1)
    return np.asarray(first / grown1 / (np.sqrt(second / grown2) + least), np.float32)


def _schedule(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / 100) * 0.5 * (1.0 + math.cos(math.pi * step / steps))


def train(samples: Samples, recipe: Recipe, rng: np.random.Generator) -> tuple[Locator, Gaussians]:
    """Train `seeds` members without each fold of 150 m cells; calibrate on what each did not see.

    Returns:
        The locator of all members, and what the members without a sample's fold said of it, before the scale.
    """
    fold = folds_of(1e3 * samples.truth_km.astype(np.float64), CELL_M, rng)
    without = [np.flatnonzero(fold != one) for one in range(FOLDS) for _ in range(recipe.seeds)]
    ensemble = fit(samples, without, recipe, rng)
    unseen = _unseen(ensemble, samples, fold, recipe.seeds)
    return Locator(ensemble, samples.sites_km, calibration_scale(unseen, samples.truth_km)), unseen


def calibration_scale(found: Gaussians, truth_km: Floats) -> float:
    """Factor on the standard deviations that makes 90 % ellipses hold 90 %: d² is below -2·ln(0.1) in theory."""
    squared = (found.whitened(truth_km) ** 2).sum(axis=-1)
    return round(math.sqrt(float(np.quantile(squared, 0.9)) / (-2.0 * math.log(0.1))), 4)


def _unseen(ensemble: Ensemble, samples: Samples, fold: Rows, seeds: int) -> Gaussians:
    mean, factor = np.empty((len(samples), 2), np.float32), np.empty((len(samples), 3), np.float32)
    for one in range(FOLDS):
        rows, members = fold == one, ensemble.members(slice(one * seeds, (one + 1) * seeds))
        found = each_member(members, samples.level_db[rows], samples.present[rows], samples.sites_km).mixture()
        mean[rows], factor[rows] = found.mean, found.factor
    return Gaussians(mean, factor)
