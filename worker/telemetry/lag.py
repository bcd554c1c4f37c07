"""How late the event loop wakes: late means that something blocks it, and heartbeats with it."""

import asyncio
import time

from prometheus_client import Histogram


class LoopBeat:
    """A task that sleeps and sees how late it is woken.

    Args:
        histogram: observes the lag, seconds.
        interval: seconds between beats.
    """

    def __init__(self, histogram: Histogram, interval: float = 0.25) -> None:
        self._histogram = histogram
        self._interval = interval
        self.beat_at = time.monotonic()
        """When the loop last beat, monotonic seconds."""

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            planned = time.monotonic() + self._interval
            await asyncio.sleep(self._interval)
            self.beat_at = time.monotonic()
            self._histogram.observe(max(0.0, self.beat_at - planned))
