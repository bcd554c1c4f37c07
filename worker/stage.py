"""Threads of the stages: work that would block the event loop, one piece at a time, in the order asked.

Small pieces are done at once, on the event loop. A hand-over to a thread and back costs some 100 µs, and while two
threads of Python are at work each of numpy's calls passes the interpreter's lock to and fro: for small jobs that is
more than the work itself. What counts as small keeps the loop busy for a few milliseconds at the most.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

SMALL_BYTES: Final = 320 * 1024
"""Of recordings: 32 of one receiver and 1,024 samples, or one of seven receivers and 10,000, take 1 to 3 ms."""
SMALL_RUN_S: Final = 0.002
"""Of a model with its largest batch."""

Answer = TypeVar("Answer")


class Stage:
    """A thread of its own, one piece of work at a time, in the order asked.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._busy = 0

    async def run(self, work: Callable[[], Answer], *, small: bool = False) -> Answer:
        """Run in the thread; a small piece here and now, unless the thread is at work.

        Args:
            work: to be done.
            small: whether it may keep the event loop.
        """
        if small and not self._busy:
            return work()
        self._busy += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        finally:
            self._busy -= 1

    def close(self) -> None:
        """End the thread."""
        self._executor.shutdown(wait=False, cancel_futures=True)
