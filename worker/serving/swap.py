"""Bringing what serves into line with the registry, one change at a time.

Whatever fails leaves the versions before in place and says why.
"""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from worker.errors import HeimdallError, ModelRejected, Unavailable
from worker.serving.library import Library
from worker.serving.model import Models, ModelVersion
from worker.serving.registry import Registry
from worker.serving.rollout import FAILED_TAG, RegistryView, Rollout, VersionRecord, plan_rollout
from worker.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

MAX_BACKOFF_S: Final = 30.0


class Swapper:
    """Changes what serves.

    Args:
        registry: says which version should play which part.
        library: files of versions.
        models: holder of those that serve.
        load: proves and loads a version from its directory; runs in a thread.
        metrics: counts swaps.
        on_changed: told after each look at the registry who paused the fleet, or None.
    """

    def __init__(
        self,
        registry: Registry,
        library: Library,
        models: Models,
        load: Callable[[Path, VersionRecord], ModelVersion],
        metrics: Metrics,
        on_changed: Callable[[str | None], None],
    ) -> None:
        self._registry = registry
        self._library = library
        self._models = models
        self._load = load
        self._metrics = metrics
        self._on_changed = on_changed
        self._one_at_a_time = asyncio.Lock()
        self._stopped = False  # Production failed: whatever is to serve next must be said anew, even the same again.
        self._refused: dict[tuple[str, str | None], str] = {}  # Refused once, and not proven again without a command.
        self._unmarked: dict[str, str] = {}  # Failed versions that the registry has not been told of, and why.

    async def first(self) -> None:
        """Load what should serve, trying until something does; the last-known roll-out where the registry is down."""
        delay = 1.0
        while self._models.current is None:
            try:
                await self.sync()
            except Unavailable:
                if self._models.current is None:  # Else it serves already, and only could not be kept for a next start.
                    await self._serve_last_known()
            except ModelRejected:
                pass  # Logged; somebody must mend the registry.
            if self._models.current is None:
                await asyncio.sleep(random.uniform(0.5, 1.0) * delay)  # noqa: S311 - jitter
                delay = min(2 * delay, MAX_BACKOFF_S)

    async def poll(self, interval: float) -> None:
        """Look at the registry every now and then, so that a worker that missed a command converges too."""
        while True:
            await asyncio.sleep(random.uniform(0.5, 1.5) * interval)  # noqa: S311 - spreads a fleet
            try:
                await self.sync(again=False)
            except HeimdallError:
                continue  # Logged; what serves goes on.

    async def sync(self, expect: str | None = None, *, again: bool = True) -> str:
        """Serve what the registry says now.

        Args:
            expect: version that the caller believes to be production.
            again: prove versions again that were refused before.

        Returns:
            What serves, and what changed.

        Raises:
            ModelRejected: a version may not serve; those before go on, and the others changed.
            Unavailable: the registry does not answer; what serves goes on.
        """
        async with self._one_at_a_time:
            if again:
                self._refused.clear()
            try:
                return await self._sync(expect)
            except (ModelRejected, Unavailable) as error:
                self._metrics.swaps.labels("failed").inc()
                log.warning("model.swap_failed", error=str(error))
                raise
            except OSError as error:
                self._metrics.swaps.labels("failed").inc()
                log.warning("model.swap_failed", error=str(error))
                raise Unavailable(f"the model's files cannot be kept: {error}") from error

    async def fail(self, version: ModelVersion, reason: str) -> None:
        """Mark a version as rolled back, and serve what the registry says then.

        A canary stops serving here at once, whether the registry answers or not; it is told as soon as it does.
        """
        self._models.drop(version)
        log.error("model.failed", name=version.record.name, version=version.label, reason=reason)
        self._metrics.rollbacks.labels(version.record.alias).inc()
        self._unmarked[version.record.version] = reason
        current = self._models.current
        self._stopped = self._stopped or (current is not None and current.primary is version)
        try:
            await self.sync()
        except HeimdallError as error:
            log.warning("model.rollback_incomplete", version=version.label, error=str(error))

    async def _sync(self, expect: str | None) -> str:
        await self._mark()
        view = await asyncio.to_thread(self._registry.view)
        self._on_changed(view.paused)
        plan = plan_rollout(self._as_failed(view))
        if expect is not None and plan.primary.version != expect:
            raise ModelRejected(f"the registry names version {plan.primary.version} for production, not {expect}")
        before = self._models.current
        refused = await self._serve(plan)
        if refused:
            self._unmarked |= {record.version: reason for record, reason in refused}
            await self._mark()
            raise ModelRejected("; ".join(f"{record.alias} version {record.version}: {why}" for record, why in refused))
        if self._models.current is before:
            return f"version {plan.primary.version} serves already"
        self._metrics.swaps.labels("succeeded").inc()
        self._metrics.up_reloads.inc()
        return _describe(plan)

    async def _mark(self) -> None:
        """Tell the registry what has failed; what it does not take is tried again at the next look."""
        for version, reason in list(self._unmarked.items()):
            try:
                await asyncio.to_thread(self._registry.mark_failed, version, reason)
            except HeimdallError as error:
                log.warning("model.rollback_incomplete", version=version, error=str(error))
            else:
                self._unmarked.pop(version, None)

    def _as_failed(self, view: RegistryView) -> RegistryView:
        """The registry's words, and what it has not been told yet."""
        records = {
            version: replace(record, tags=record.tags | {FAILED_TAG: self._unmarked[version]})
            if version in self._unmarked
            else record
            for version, record in view.records.items()
        }
        return replace(view, records=records)

    async def _serve(self, plan: Rollout[VersionRecord]) -> list[tuple[VersionRecord, str]]:
        """Load what is not loaded, and let it serve. Returns the canary or shadow that does not, and why."""
        primary = await self._version(plan.primary)
        canary, refused_canary = await self._optional(plan.canary)
        shadow, refused_shadow = await self._optional(plan.shadow)
        rollout = Rollout(primary, canary, plan.canary_weight if canary else 0.0, shadow)
        if self._stopped or not _equal(self._models.current, rollout):
            self._stopped = False
            self._models.replace(rollout)
            served = Rollout(
                plan.primary, plan.canary if canary else None, rollout.canary_weight, plan.shadow if shadow else None
            )
            await asyncio.to_thread(self._library.remember, served)
            log.info("model.serving", rollout=_describe(served), digest=primary.digest)
        return refused_canary + refused_shadow

    async def _optional(
        self, record: VersionRecord | None
    ) -> tuple[ModelVersion | None, list[tuple[VersionRecord, str]]]:
        if record is None:
            return None, []
        try:
            return await self._version(record), []
        except ModelRejected as error:
            return None, [(record, error.reason)]

    async def _version(self, record: VersionRecord) -> ModelVersion:
        """The loaded version of a record: the one that serves already, or a new one."""
        current = self._models.current
        same = [
            loaded
            for loaded in (current.versions if current else ())
            if (loaded.record.version, loaded.digest) == (record.version, record.digest)
        ]
        if same:  # Of a version that plays two parts, the one of this part: else each look would change what serves.
            return next((loaded for loaded in same if loaded.record == record), None) or replace(same[0], record=record)
        key = (record.version, record.digest)
        if key in self._refused:
            raise ModelRejected(self._refused[key])
        started = time.monotonic()
        try:
            version = await asyncio.to_thread(self._fetch_and_load, record)
        except ModelRejected as error:
            self._refused[key] = error.reason
            raise
        log.info("model.loaded", version=version.label, seconds=round(time.monotonic() - started, 3))
        return version

    def _fetch_and_load(self, record: VersionRecord) -> ModelVersion:
        with self._library.files(record) as directory:
            try:
                return self._load(directory, record)
            except HeimdallError:
                raise
            except Exception as error:
                log.exception("model.load_failed", version=record.version)
                raise ModelRejected(f"loading failed unexpectedly: {type(error).__name__}: {error}") from error

    async def _serve_last_known(self) -> None:
        try:
            plan = await asyncio.to_thread(self._library.last_known)
            async with self._one_at_a_time:
                refused = await self._serve(plan)
        except (HeimdallError, OSError) as error:
            log.warning("model.no_last_known", error=str(error))
        else:
            log.warning(
                "model.serving_last_known",
                version=plan.primary.version,
                refused={record.version: reason for record, reason in refused},
            )


def _describe(plan: Rollout[VersionRecord]) -> str:
    parts = [f"production {plan.primary.version}"]
    if plan.canary is not None:
        parts.append(f"canary {plan.canary.version} at {plan.canary_weight:g} %")
    if plan.shadow is not None:
        parts.append(f"shadow {plan.shadow.version}")
    return ", ".join(parts)


def _equal(one: Rollout[ModelVersion] | None, other: Rollout[ModelVersion]) -> bool:
    return one is not None and (one.primary, one.canary, one.canary_weight, one.shadow) == (
        other.primary,
        other.canary,
        other.canary_weight,
        other.shadow,
    )
