"""Sums of power over the bins of many filters, each of which holds few bins."""

from typing import Final

import numpy as np
import numpy.typing as npt

_TOGETHER: Final = 16
"""Filters of one product: with 8 the calls cost more than they save, with 32 the products hold more zeros."""


class Filterbank:
    """Filters that neighbours in the list hold neighbouring bins of.

    A few filters at a time are one small dense product over the bins they span. Nearly all weights of a filterbank are
    zeros: a single product over all bins takes four times as long for 128 filters of 512 bins.

    Products have the same shape for every signal, so the bits of one do not depend on what is computed beside it.

    Args:
        weights: float32 (n_filters, bins).
    """

    __slots__ = ("_products",)

    def __init__(self, weights: npt.NDArray[np.float32]) -> None:
        self._products = []
        for first in range(0, len(weights), _TOGETHER):
            filters = slice(first, first + _TOGETHER)
            held = _span(weights[filters])
            self._products.append((held, filters, np.ascontiguousarray(weights[filters, held].T)))

    def __call__(self, power: npt.NDArray[np.float32], out: npt.NDArray[np.float32]) -> None:
        """Weighted sums of each frame.

        Args:
            power: float32 (…, frames, bins).
            out: float32 (…, frames, n_filters), overwritten with the result.
        """
        for held, filters, weights in self._products:
            np.matmul(power[..., held], weights, out=out[..., filters])


def _span(weights: npt.NDArray[np.float32]) -> slice:
    """From the first to the last bin that any of the filters holds; none where scaled weights are too small to be."""
    bins = np.flatnonzero(weights.any(axis=0))
    return slice(int(bins[0]), int(bins[-1]) + 1) if bins.size else slice(0)
