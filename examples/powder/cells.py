"""Folds that do not leak: whole cells of the map are held out, since samples lie seconds, and metres, apart.

Cells of 150 m with a random offset put a held-out sample as far from the nearest training sample (median about 40 m)
as a sample of a place that was never visited.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from examples.powder.survey import Array

Rows = npt.NDArray[np.intp]

CELL_M: Final = 150.0
COARSE_CELL_M: Final = 300.0
FOLDS: Final = 5


def cells_of(east_north_m: Array, size_m: float, offset_m: Array) -> Rows:
    """Number of the grid cell of each position.

    Args:
        east_north_m: positions (n, 2).
        size_m: side of a cell.
        offset_m: of the grid, east and north (2,).

    Returns:
        Cells, numbered from 0 in the order of their places (n,).
    """
    squares = np.floor((east_north_m + offset_m) / size_m).astype(np.int64)
    return np.asarray(np.unique(squares, axis=0, return_inverse=True)[1].ravel(), np.intp)


def folds_of(east_north_m: Array, size_m: float, rng: np.random.Generator, folds: int = FOLDS) -> Rows:
    """Fold of each position: a grid at a random offset, its cells dealt out at random to folds of about equal size.

    Args:
        east_north_m: positions (n, 2).
        size_m: side of a cell.
        rng: source of offset and order.
        folds: how many.

    Returns:
        0 … folds - 1 for each position (n,).
    """
    cell = cells_of(east_north_m, size_m, rng.uniform(0.0, size_m, 2))
    samples = np.bincount(cell)
    fold_of_cell = np.zeros(samples.size, np.intp)
    load = np.zeros(folds)
    for one in rng.permutation(samples.size):
        fold_of_cell[one] = np.argmin(load)
        load[fold_of_cell[one]] += samples[one]
    return np.asarray(fold_of_cell[cell])
