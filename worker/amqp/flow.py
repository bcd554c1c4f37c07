"""Whether jobs are taken: an explicit list of reasons why not."""

import asyncio
from typing import Literal

Reason = Literal["model", "store", "draining", "paused", "fleet_paused"]


class Flow:
    """Open while no reason stands against it. A signal, not a lock: what is held goes on."""

    def __init__(self) -> None:
        self._reasons: set[Reason] = set()
        self._wakers: set[asyncio.Event] = set()

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Why no jobs are taken; empty = they are."""
        return tuple(sorted(self._reasons))

    @property
    def open(self) -> bool:
        """Whether jobs are taken."""
        return not self._reasons

    def stop(self, reason: Reason) -> None:
        """Take no jobs for this reason."""
        self._reasons.add(reason)
        self._wake()

    def clear(self, reason: Reason) -> None:
        """The reason is gone."""
        self._reasons.discard(reason)
        self._wake()

    async def wait(self, *, open_: bool) -> None:
        """Wait until jobs are taken, or until they are not."""
        while self.open != open_:
            waker = asyncio.Event()
            self._wakers.add(waker)
            try:
                await waker.wait()
            finally:
                self._wakers.discard(waker)

    def _wake(self) -> None:
        for waker in self._wakers:
            waker.set()
