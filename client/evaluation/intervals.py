"""Intervals of figures: what another sample of scenes might have given instead."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

LEVEL: Final = 0.95
RESAMPLES: Final = 1_000
SEED: Final = 2025
"""Fixed: the same answers give the same report."""

Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


def wilson(successes: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Score interval of a share of independent scenes (Wilson, JASA 22, 1927).

    Raises:
        ValueError: n below 1.
    """
    if n < 1:
        raise ValueError("an interval needs one scene or more")
    z = float(ndtri((1 + level) / 2))
    share = successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * float(np.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2))
    return max(0.0, centre - half), min(1.0, centre + half)


def resampled_blocks(blocks: Sequence[Hashable], resamples: int = RESAMPLES, seed: int = SEED) -> list[Rows]:
    """Rows of bootstrap samples that draw whole blocks with replacement.

    Scenes of one block (a place, a drive) resemble each other: drawing them one by one would pretend to more
    information than there is (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 8.6).

    Args:
        blocks: the block of each scene.
        resamples: number of samples.
        seed: of the draws.

    Returns:
        Indices of scenes, one array per sample; their lengths differ with the blocks'.
    """
    numbers = {block: number for number, block in enumerate(dict.fromkeys(blocks))}
    number_of = np.array([numbers[block] for block in blocks])
    members = np.split(np.argsort(number_of, kind="stable"), np.cumsum(np.bincount(number_of))[:-1])
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, len(members), (resamples, len(members)))
    return [np.concatenate([members[index] for index in draw]) for draw in draws]


def bootstrap(figure: Callable[[Rows], float], samples: Sequence[Rows], level: float = LEVEL) -> tuple[float, float]:
    """Percentile interval of a figure of rows over bootstrap samples."""
    tail = (1 - level) / 2
    low, high = np.quantile([figure(rows) for rows in samples], [tail, 1 - tail])
    return float(low), float(high)
