"""When a version is at fault, and not the jobs. Pure: counts in, verdict out."""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

TRIAL_WINDOW: Final = 100
TRIAL_FAILURES: Final = 5
"""A canary is rolled back when so many of its last 100 items failed that production could locate."""

MOSTLY: Final = 0.5
FAULTY_BATCHES: Final = 3
FAULTY_ITEMS: Final = 8
"""Production is at fault after so many batches in a row, with so many failed items, failed for the most part."""


@dataclass(slots=True)
class CanaryTrial:
    """The last items of a canary. An item fails here only if production located it: a bad input blames nobody."""

    _items: deque[bool] = field(default_factory=lambda: deque(maxlen=TRIAL_WINDOW))

    def observe(self, items: int, failed: int) -> str | None:
        """Note the items of a batch.

        Returns:
            Why the canary has failed, or None.
        """
        # Failures last: in a batch larger than the window they would else fall out of it unseen.
        self._items.extend([False] * (items - failed) + [True] * failed)
        count = sum(self._items)
        if count < TRIAL_FAILURES:
            return None
        return f"{count} of its last {len(self._items)} items failed where production did not"


@dataclass(slots=True)
class ProductionWatch:
    """Batches of production that failed for the most part, since the last one that did not."""

    _batches: int = 0
    _failed: int = 0

    def observe(self, items: int, failed: int) -> str | None:
        """Note a batch.

        Returns:
            Why the version is at fault, or None.
        """
        if not items:
            return None
        if failed <= MOSTLY * items:
            self._batches = self._failed = 0
            return None
        self._batches += 1
        self._failed += failed
        if self._batches < FAULTY_BATCHES or self._failed < FAULTY_ITEMS:
            return None
        return f"most items of {self._batches} batches in a row failed ({self._failed} items)"
