"""Redis, and what happens while it is away: calls are repeated, and consumption stands still."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from prometheus_client import Counter
from redis.asyncio import BlockingConnectionPool, Redis, SSLConnection
from redis.exceptions import RedisError
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    RetryError,
    retry_if_exception_type,
    stop_after_delay,
    wait_exponential_jitter,
)

from worker.errors import Unavailable
from worker.store.commands import Commands
from worker.tls import explain

log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")
FAILURES = (RedisError, OSError, TimeoutError)
_CONNECTIONS = 8
_PROBE_INTERVAL = 0.5
_PROBE_TTL = 10


def connect(url: str, timeout: float) -> Redis:
    """A client whose every call ends within `timeout` seconds and is never repeated behind our back."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=_CONNECTIONS,
        timeout=timeout,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=None,
        retry_on_error=[],
        # With 3 the library takes a connection that Redis closed for one that is told of maintenance, and uses it.
        protocol=2,
    )
    return Redis.from_pool(pool)


class StoreConnection:
    """A Redis client together with the knowledge of whether Redis takes writes.

    Args:
        client: of Redis.
        hold: seconds that a call is repeated before it is given up.
        instance: name of this worker, for the probe's key.
        failures: counts failed calls.
        on_change: told `True` when writes work (again), `False` when a call fails.
    """

    def __init__(
        self,
        client: Redis,
        *,
        hold: float,
        instance: str,
        failures: Counter,
        on_change: Callable[[bool], None],
    ) -> None:
        self.client = client
        self.commands = Commands(client)
        """For what is asked for every batch."""
        self._hold = hold
        self._probe_key = f"heimdall:probe:{instance}"
        self._failures = failures
        self._on_change = on_change
        self._warned = False
        self._down = asyncio.Event()
        self._down.set()

    @property
    def up(self) -> bool:
        """Whether the last real write succeeded and no call failed since."""
        return not self._down.is_set()

    async def insist(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """Call until Redis answers.

        Raises:
            Unavailable: it did not for as long as jobs may be held.
        """
        try:
            return await self._shielded(call)
        except FAILURES as error:
            self._on_failure(error)
        retrying = AsyncRetrying(
            stop=stop_after_delay(self._hold),
            wait=wait_exponential_jitter(multiplier=0.1, max=2.0),
            retry=retry_if_exception_type(FAILURES),
            before_sleep=self._on_attempt,
        )
        try:
            return await retrying(self._shielded, call)
        except RetryError as error:
            raise Unavailable(f"Redis did not answer for {self._hold:g} s") from error

    async def attempt(self, call: Callable[[], Awaitable[Answer]]) -> Answer | None:
        """Call once; None where Redis is away. For what may be missing, such as the cache."""
        if not self.up:
            return None
        try:
            return await self._shielded(call)
        except FAILURES as error:
            self._failures.inc()
            log.warning("cache.failed", error=str(error))
            return None

    async def watch(self) -> None:
        """While Redis is away, try a real write until it succeeds. Runs until cancelled."""
        reason = ""
        while True:
            await self._down.wait()
            try:
                await self.client.set(self._probe_key, b"1", ex=_PROBE_TTL)
            except FAILURES as error:
                before, reason = reason, explain(error, encrypted=self._encrypted)
                if reason != before:
                    log.warning("store.down", error=reason)
                log.debug("store.still_away", error=reason)
                await asyncio.sleep(_PROBE_INTERVAL)
            else:
                reason = ""
                self._down.clear()
                log.info("store.up")
                self._on_change(True)

    async def memory_bytes(self) -> int:
        """Memory that Redis uses; 0 where it does not say."""
        info = await self.attempt(lambda: self.client.info("memory"))
        policy = info.get("maxmemory_policy", "noeviction") if info else "noeviction"
        if policy != "noeviction" and not self._warned:
            self._warned = True
            log.warning("store.evicts", policy=policy)
        return int(info.get("used_memory", 0)) if info else 0

    async def close(self) -> None:
        """Close all connections."""
        await self.commands.close()
        await self.client.aclose()

    @property
    def _encrypted(self) -> bool:
        return issubclass(self.client.connection_pool.connection_class, SSLConnection)

    async def _shielded(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        # A cancelled command would leave its answer in the connection for whoever comes next.
        return await asyncio.shield(asyncio.ensure_future(call()))

    def _on_failure(self, error: BaseException | None) -> None:
        self._failures.inc()
        if self.up:
            log.warning("store.down", error=str(error))
            self._down.set()
            self._on_change(False)

    def _on_attempt(self, state: RetryCallState) -> None:
        self._on_failure(state.outcome.exception() if state.outcome else None)
