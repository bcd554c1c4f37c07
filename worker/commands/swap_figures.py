"""The one line of figures that says what a change of versions did to the jobs meanwhile."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class SwapFigures:
    """Figures of one or more changes; None = cannot be seen from where they were taken.

    Attributes:
        jobs: answered or not.
        lost: without an answer.
        refused: by the broker.
        errors: answered with one.
        mixed: not from exactly the one version they name.
        p99_ratio: of latencies during a change to those before.
        rss_growth: of the worker that grew most; 0.1 = a tenth.
    """

    swaps: int
    jobs: int
    lost: int | None
    refused: int | None
    errors: int
    mixed: int
    p99_ratio: float | None
    rss_growth: float | None

    @property
    def clean(self) -> bool:
        """Whether no job came to harm, as far as can be seen."""
        return not (self.lost or self.refused or self.errors or self.mixed)

    def line(self) -> str:
        """The line; `-` stands for what cannot be seen."""
        growth = "-" if self.rss_growth is None else f"{100 * self.rss_growth:+.1f}%"
        ratio = "-" if self.p99_ratio is None else f"{self.p99_ratio:.2f}"
        lost, refused = ("-" if value is None else value for value in (self.lost, self.refused))
        return (
            f"swaps: swaps={self.swaps} jobs={self.jobs} lost={lost} refused={refused} errors={self.errors} "
            f"mixed={self.mixed} p99_ratio={ratio} rss_growth={growth}"
        )


def p99_ratio(during: Sequence[float], before: Sequence[float]) -> float | None:
    """99th percentile of the one over that of the other; None where either is empty or instant."""
    if not during or not before:
        return None
    base = float(np.percentile(before, 99))
    return float(np.percentile(during, 99)) / base if base > 0 else None
