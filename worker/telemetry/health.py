"""Whether the worker lives, is ready, has started: pure questions to its parts."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

LOOP_TIMEOUT_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Probes:
    """What health is made of; each is asked when somebody asks.

    Attributes:
        loop_beat_at: when the event loop last beat, monotonic seconds.
        progress_at: when a batch last started or ended.
        busy: whether there is work that should make progress, and nothing outside stands in its way.
        obstacles: why no jobs are taken; empty = they are.
        started: whether the worker was ever ready.
        live_timeout_s: busy without progress for so long is not alive.
    """

    loop_beat_at: Callable[[], float]
    progress_at: Callable[[], float]
    busy: Callable[[], bool]
    obstacles: Callable[[], list[str]]
    started: Callable[[], bool]
    live_timeout_s: float

    def live(self) -> list[str]:
        """Why the process should be restarted; empty = it lives. Never because of a dependency."""
        now = time.monotonic()
        problems = []
        if now - self.loop_beat_at() > LOOP_TIMEOUT_S:
            problems.append(f"the event loop has not beaten for {now - self.loop_beat_at():.0f} s")
        if self.busy() and now - self.progress_at() > self.live_timeout_s:
            problems.append(f"held jobs have made no progress for {now - self.progress_at():.0f} s")
        return problems

    def ready(self) -> list[str]:
        """Why no jobs are taken; empty = they are."""
        return self.obstacles()

    def startup(self) -> list[str]:
        """Why the start is not over; empty = it is."""
        return [] if self.started() else ["starting", *self.obstacles()]
