"""What features are computed from: captures and where their receivers sit, several at once where they are alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from worker.recording import IqCapture, Level
from worker.serving.seating import Seats

TOGETHER_IQ: Final = 1 << 15
"""Complex numbers whose features are computed at once: 256 KiB."""


@dataclass(frozen=True, slots=True)
class Item:
    """A capture and where its receivers sit."""

    capture: IqCapture
    seats: Seats

    @property
    def layout(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """What must agree between items whose features are computed at once: shape of the samples, channel per row."""
        return self.capture.samples.shape, self.seats.channels


@dataclass(frozen=True, slots=True)
class Alike:
    """Items of one layout: the rows that are taken, the channel of each, and their samples (B, R, N) in this order."""

    items: Sequence[Item]
    rows: NDArray[np.intp]
    channels: NDArray[np.intp]
    samples: NDArray[np.complex64]

    @classmethod
    def of(cls, items: Sequence[Item], level: Level) -> "Alike":
        """Put items together; those of one alone are not copied.

        Args:
            items: one or more.
            level: the contract's.

        Raises:
            ValueError: they differ in layout, or one was read in another level.
        """
        layout = items[0].layout
        for item in items:
            if item.capture.level != level:
                raise ValueError(f"the capture is in {item.capture.level}, the contract in {level}")
            if item.layout != layout:
                raise ValueError(f"items of the layouts {layout} and {item.layout} are not alike")
        rows, channels = items[0].seats.occupied
        recorded = [item.capture.samples for item in items]
        samples = recorded[0][np.newaxis] if len(recorded) == 1 else np.stack(recorded)
        in_order = channels.tolist() == list(range(samples.shape[1]))
        return cls(items, rows, channels, samples if in_order else samples[:, channels])
