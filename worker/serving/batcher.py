"""Collects arrivals into micro-batches and runs them, as the policy says.

Arrivals that crashed a worker before run alone, and nothing runs beside them: if the process dies, only one job can
have done it.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from worker.serving.policy import BatchPolicy

Arrival = TypeVar("Arrival")
LeaveFeatures = Callable[[], None]
"""What a batch calls when it has left the features stage: the next one may be cut. Calling it again is harmless."""


class MicroBatcher(Generic[Arrival]):
    """A queue that hands out micro-batches.

    `put` never blocks and never raises. What `run_batch` raises is given to `on_crash`: the batcher goes on.

    Args:
        policy: when a batch is dispatched.
        run_batch: runs one micro-batch of 1 to `max_batch_size` arrivals to its end, and says when it leaves the
            features stage.
        is_suspect: whether an arrival must run alone.
        max_in_flight: batches that may run at once; the stages inside `run_batch` order themselves.
        on_crash: told of an exception that `run_batch` let out, which is a bug.
    """

    def __init__(
        self,
        policy: BatchPolicy,
        run_batch: Callable[[list[Arrival], LeaveFeatures], Awaitable[None]],
        *,
        is_suspect: Callable[[Arrival], bool],
        max_in_flight: int,
        on_crash: Callable[[BaseException], None],
    ) -> None:
        self._policy = policy
        self._run_batch = run_batch
        self._is_suspect = is_suspect
        self._max_in_flight = max_in_flight
        self._on_crash = on_crash
        self._waiting: deque[tuple[float, Arrival]] = deque()
        self._suspects: deque[Arrival] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._in_features: object | None = None
        self._wake = asyncio.Event()
        self.progress_at = time.monotonic()
        """When a batch last started or ended, monotonic seconds: liveness looks at it."""

    def put(self, arrival: Arrival) -> None:
        """Take an arrival."""
        if self._is_suspect(arrival):
            self._suspects.append(arrival)
        else:
            self._waiting.append((time.monotonic(), arrival))
        self._wake.set()

    @property
    def waiting(self) -> int:
        """Arrivals not yet in a batch."""
        return len(self._waiting) + len(self._suspects)

    @property
    def in_flight(self) -> int:
        """Batches that run."""
        return len(self._running)

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing runs."""
        return not self.waiting and not self._running

    async def run(self) -> None:
        """Dispatch until cancelled. Batches that run then go on; `drain` waits for them."""
        while True:
            self._wake.clear()
            if self._suspects:
                await self._run_next_alone()
                continue
            due = self._due_in()
            if due == 0.0:
                self._dispatch()
                # The arrivals that the broker has already sent come in before the next decision.
                await asyncio.sleep(0)
                continue
            await self._wait(due)

    async def drain(self) -> None:
        """Wait until nothing waits and nothing runs. `run` must be running."""
        while not self.idle:
            running = set(self._running)
            if running:
                await asyncio.wait(running, timeout=0.1)
            else:
                await asyncio.sleep(0.01)

    def withdraw(self) -> list[Arrival]:
        """Give back what waits, to be released."""
        withdrawn = [*self._suspects, *(arrival for _, arrival in self._waiting)]
        self._suspects.clear()
        self._waiting.clear()
        return withdrawn

    def _due_in(self) -> float | None:
        return self._policy.due_in(
            waiting=len(self._waiting),
            first_arrival=self._waiting[0][0] if self._waiting else 0.0,
            now=time.monotonic(),
            stage_free=self._in_features is None and len(self._running) < self._max_in_flight,
        )

    async def _wait(self, seconds: float | None) -> None:
        try:
            await asyncio.wait_for(self._wake.wait(), seconds)
        except TimeoutError:
            return

    def _dispatch(self) -> asyncio.Task[None]:
        count = min(len(self._waiting), self._policy.max_batch_size)
        return self._start([self._waiting.popleft()[1] for _ in range(count)])

    async def _run_next_alone(self) -> None:
        while self._running:
            await asyncio.wait(set(self._running))
        if self._suspects:  # It waits until it starts, so that a drain sees it and a withdrawal returns it.
            await asyncio.wait({self._start([self._suspects.popleft()])})

    def _start(self, batch: list[Arrival]) -> asyncio.Task[None]:
        # In the stage from here on, not only once the task runs: else a second batch would be cut too early.
        self._in_features = token = object()

        def leave() -> None:
            if self._in_features is token:
                self._in_features = None
                self._wake.set()

        self.progress_at = time.monotonic()
        task = asyncio.create_task(self._guarded(batch, leave))
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    async def _guarded(self, batch: list[Arrival], leave: LeaveFeatures) -> None:
        try:
            await self._run_batch(batch, leave)
        except Exception as error:  # One broken batch must not stop the others.
            self._on_crash(error)
        finally:
            leave()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self.progress_at = time.monotonic()
        self._wake.set()
