"""Changing what serves, one change at a time. Whatever fails leaves the version before in place and says why."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog
from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from worker.errors import HeimdallError, ModelRejected, Unavailable
from worker.serving.model import Models, ModelVersion, VersionRecord
from worker.serving.registry import Registry
from worker.serving.rollout import Rollout
from worker.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

MAX_BACKOFF_S: Final = 30.0


class Swapper:
    """Brings what serves into line with the registry.

    Args:
        registry: says which version should serve.
        models: holder of the one that does.
        load: loads and proves a version from its directory; runs in a thread.
        metrics: counts swaps.
    """

    def __init__(
        self,
        registry: Registry,
        models: Models,
        load: Callable[[Path, VersionRecord], ModelVersion],
        metrics: Metrics,
    ) -> None:
        self._registry = registry
        self._models = models
        self._load = load
        self._metrics = metrics
        self._one_at_a_time = asyncio.Lock()

    async def first(self) -> None:
        """Load the first version, trying until one is valid."""
        retrying = AsyncRetrying(
            wait=wait_random_exponential(multiplier=1.0, max=MAX_BACKOFF_S),
            retry=retry_if_exception_type((ModelRejected, Unavailable)),
        )
        await retrying(self.reload)

    async def reload(self, expect: str | None = None) -> str:
        """Serve the version that the registry names now.

        Args:
            expect: version that the caller believes the registry names.

        Returns:
            What was done.

        Raises:
            ModelRejected: the version may not serve; the one before goes on.
            Unavailable: the registry does not answer; the version before goes on.
        """
        async with self._one_at_a_time:
            try:
                done = await self._reload(expect)
            except (ModelRejected, Unavailable) as error:
                self._metrics.swaps.labels("failed").inc()
                log.warning("model.swap_failed", error=str(error))
                raise
            self._metrics.swaps.labels("succeeded").inc()
            self._metrics.up_reloads.inc()
            return done

    async def _reload(self, expect: str | None) -> str:
        record = await asyncio.to_thread(self._registry.production)
        if expect is not None and record.version != expect:
            raise ModelRejected(f"the registry names version {record.version} for production, not {expect}")
        current = self._models.current
        if current is not None and _same(current.primary, record):
            return f"version {record.version} serves already"
        started = time.monotonic()
        version = await asyncio.to_thread(self._fetch_and_load, record)
        self._models.replace(Rollout(primary=version))
        took = time.monotonic() - started
        log.info(
            "model.serving", name=record.name, version=record.version, digest=version.digest, seconds=round(took, 3)
        )
        return f"version {record.version} serves, after {took:.1f} s"

    def _fetch_and_load(self, record: VersionRecord) -> ModelVersion:
        with self._registry.download(record) as directory:
            try:
                return self._load(directory, record)
            except HeimdallError:
                raise
            except Exception as error:
                log.error("model.load_failed", version=record.version, exc_info=error)
                raise ModelRejected(f"loading failed unexpectedly: {type(error).__name__}: {error}") from error


def _same(version: ModelVersion, record: VersionRecord) -> bool:
    return (version.record.version, version.record.alias, version.digest) == (
        record.version,
        record.alias,
        record.digest,
    )
