"""Claim checks redeemed: the bodies that jobs only refer to are fetched before their jobs join a micro-batch.

A fetch takes as long as the store takes, so it happens between intake and batch: no neighbour waits for it. What is
fetched counts with its declared size against a budget of its own until the job is settled; further claims wait.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Generic, Protocol, TypeVar
from weakref import ref

import structlog

from schemas.claim import Claim
from schemas.job import SIGMF_CONTENT_TYPE, JobHeaders
from schemas.problems import ProblemError
from worker.claim_stores import ClaimStores
from worker.errors import ClaimRefused, ClaimUnavailable, InternalError, JobError, MalformedEnvelope, TooLarge

log = structlog.get_logger(__name__)

FETCHES_AT_ONCE: Final = 4
_POLL_S: Final = 0.05
_MARGIN_S: Final = 1.0
"""The thread gives up by itself, with a better reason, unless the store holds it in one call."""


class Claimant(Protocol):
    """A delivery, as far as its claim goes.

    Attributes:
        fetched: the dataset, once it is here.
        problem: what is wrong with the job, or None.
    """

    fetched: bytes | None
    problem: JobError | None

    @property
    def job_id(self) -> str | None: ...  # noqa: D102
    @property
    def content_type(self) -> str: ...  # noqa: D102
    @property
    def headers(self) -> JobHeaders: ...  # noqa: D102
    @property
    def body(self) -> bytes: ...  # noqa: D102
    @property
    def held(self) -> bool: ...  # noqa: D102


Held = TypeVar("Held", bound=Claimant)


class ClaimBudget:
    """Bytes that fetched bodies may take at once, in the order asked.

    Args:
        limit_bytes: of all together.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._reserved: list[tuple[int, Callable[[], bool]]] = []
        self._turn = asyncio.Lock()

    @property
    def used_bytes(self) -> int:
        """Bytes that are reserved."""
        return sum(size for size, _ in self._reserved)

    async def reserve(self, size: int, held: Callable[[], bool]) -> bool:
        """Wait for room, at most until nobody holds what it is for.

        Args:
            size: bytes, at most the limit.
            held: whether the room is still needed; it is free again when not.

        Returns:
            Whether there is room; False when it is needed no more.
        """
        async with self._turn:
            while held():
                self._reserved = [(taken, still_held) for taken, still_held in self._reserved if still_held()]
                if self.used_bytes + size <= self._limit_bytes:
                    self._reserved.append((size, held))
                    return True
                await asyncio.sleep(_POLL_S)
        return False


class Claims(Generic[Held]):
    """Redeems the claims of deliveries.

    Args:
        stores: the allow-list.
        max_bytes: of one dataset.
        memory_bytes: of all that are held.
        timeout_s: of one fetch.
    """

    def __init__(self, stores: ClaimStores, *, max_bytes: int, memory_bytes: int, timeout_s: float) -> None:
        self._stores = stores
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._budget = ClaimBudget(memory_bytes)
        self._threads = ThreadPoolExecutor(FETCHES_AT_ONCE, thread_name_prefix="claims")
        self._thread_free = asyncio.Semaphore(FETCHES_AT_ONCE)
        self._tasks: dict[asyncio.Task[None], Held] = {}
        self.progress_at = time.monotonic()
        """When a fetch last ended, monotonic seconds: liveness looks at it."""

    def take(self, delivery: Held, put: Callable[[Held], None]) -> None:
        """Hand a delivery on: at once, or when its claim is redeemed. Never blocks, never raises.

        Args:
            delivery: fresh from intake.
            put: takes it; its `fetched` is set then, or its `problem` says why not.
        """
        if delivery.headers.claim is None or delivery.problem is not None:
            put(delivery)
            return
        task = asyncio.get_running_loop().create_task(self._redeem_then(delivery, put))
        self._tasks[task] = delivery
        task.add_done_callback(lambda done: self._tasks.pop(done, None))

    async def drain(self) -> None:
        """Wait until all that was taken is handed on. Nothing more must be taken meanwhile."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    def withdraw(self) -> list[Held]:
        """Give back what is not redeemed yet, to be released."""
        withdrawn = list(self._tasks.values())
        for task in self._tasks:
            task.cancel()
        return withdrawn

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def redeem(self, delivery: Held) -> None:
        """Fetch the body of a delivery with a claim. Never raises: what is wrong stands in its `problem`."""
        try:
            delivery.fetched = await self._fetch(delivery)
        except JobError as error:
            delivery.problem = error.as_value()
        except Exception as error:
            log.exception("job.internal_error", job_id=delivery.job_id)
            delivery.problem = InternalError(f"fetching the body failed unexpectedly ({type(error).__name__})")
        self.progress_at = time.monotonic()

    async def _redeem_then(self, delivery: Held, put: Callable[[Held], None]) -> None:
        await self.redeem(delivery)
        put(delivery)

    async def _fetch(self, delivery: Held) -> bytes:
        claim = delivery.headers.claim
        assert claim is not None
        self._check(delivery, claim)
        if await self._budget.reserve(claim.size, _held_by(ref(delivery))):
            await self._thread_free.acquire()
            if delivery.held:
                return await self._read(claim)
            self._thread_free.release()
        raise ClaimUnavailable(f"{claim.url} was not fetched: the delivery was lost with its connection")

    async def _read(self, claim: Claim) -> bytes:
        """Read in a free thread. Its time begins here: waiting for a thread says nothing about the store."""
        ends = time.monotonic() + self._timeout_s
        reading = asyncio.get_running_loop().run_in_executor(self._threads, self._stores.read, claim, ends)
        reading.add_done_callback(self._end_read)
        try:
            async with asyncio.timeout(self._timeout_s + _MARGIN_S):
                # Shielded, because a thread that is given up is free only when the store lets go of it.
                return await asyncio.shield(reading)
        except TimeoutError:
            raise ClaimUnavailable(f"{claim.url} was not fetched within {self._timeout_s:g} s") from None

    def _end_read(self, reading: asyncio.Future[bytes]) -> None:
        self._thread_free.release()
        if not reading.cancelled():
            reading.exception()  # Looked at: nobody else does where the reading was given up.

    def _check(self, delivery: Held, claim: Claim) -> None:
        """All that can be said without asking anybody."""
        if delivery.content_type != SIGMF_CONTENT_TYPE or delivery.body:
            raise MalformedEnvelope(
                f"a claim stands for the dataset of a SigMF Recording: content_type {SIGMF_CONTENT_TYPE}, no body"
            )
        if not self._stores.prefixes:
            raise ClaimRefused("this worker follows no references: its operator allows none (HEIMDALL_CLAIM_SOURCES)")
        self._stores.check(claim.url)
        if claim.size > self._max_bytes:
            detail = f"the claim is for {claim.size} bytes; the limit is {self._max_bytes}"
            raise TooLarge(
                detail, [ProblemError(detail=detail, pointer="headers/claim/size", expected=self._max_bytes)]
            )


def _held_by(delivery: "ref[Held]") -> Callable[[], bool]:
    """Whether a delivery is there and held. The budget keeps no delivery, or a settled one would stay with its body."""

    def held() -> bool:
        it = delivery()
        return it is not None and it.held

    return held
