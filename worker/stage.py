"""Threads of the stages: work that would block the event loop, one piece at a time, in the order asked.

Small pieces are done at once, on the event loop. A hand-over to a thread and back costs some 100 µs, and while two
threads of Python are at work each of numpy's calls passes the interpreter's lock to and fro: for small jobs that is
more than the work itself. What counts as small keeps the loop busy for a few milliseconds at the most; a batch of small
jobs is cut into such pieces, and the loop has a turn between them.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar

SMALL_BYTES: Final = 1 << 20
"""Of recordings that are read: hashed, and their metadata parsed."""
SMALL_IQ: Final = 200_000
"""Complex numbers that features are computed from."""
SMALL_RUN_S: Final = 0.002
"""Of a model with its largest batch."""

Answer = TypeVar("Answer")


def pieces(sizes: Sequence[int], most: int) -> Iterator[tuple[range, bool]]:
    """Cut a sequence into ranges of at most `most` together, and ranges of elements that are each larger.

    Returns:
        Each range, and whether it is small.
    """
    start = 0
    while start < len(sizes):
        end, total, small = start + 1, sizes[start], sizes[start] <= most
        while end < len(sizes) and (total + sizes[end] <= most if small else sizes[end] > most):
            total += sizes[end]
            end += 1
        yield range(start, end), small
        start = end


class Stage:
    """A thread of its own, one piece of work at a time, in the order asked.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._busy = 0

    async def run_each(self, work: Callable[[range], None], sizes: Sequence[int], most: int) -> None:
        """Do work on all elements of a sequence, in order: the small ones on the event loop, a piece at a time.

        Args:
            work: on a range of elements.
            sizes: of the elements.
            most: how large a small piece may be.
        """
        for part, small in pieces(sizes, most):
            if part.start:
                await asyncio.sleep(0)
            await self.run(partial(work, part), small=small)

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
