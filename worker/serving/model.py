"""A model version ready to serve, and the one immutable reference to what serves now."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from worker.serving.contract import ModelContract
from worker.serving.inputs import FeaturePlan
from worker.serving.rollout import Rollout, VersionRecord
from worker.serving.seating import Admission
from worker.serving.session import OnnxSession


@dataclass(frozen=True, eq=False)
class ModelVersion:
    """A loaded, proven and warmed-up version: everything a batch needs to be computed with it.

    Attributes:
        cache_scope: digest of model and contract; what they decide is cached under it.
        loaded_ns: Unix time, nanoseconds.
    """

    record: VersionRecord
    digest: str
    contract: ModelContract
    session: OnnxSession
    plan: FeaturePlan
    admission: Admission
    cache_scope: bytes
    loaded_ns: int

    @property
    def label(self) -> str:
        """The version, as metrics and logs name it."""
        return self.record.version

    def reference(self) -> dict[str, Any]:
        """As results name it."""
        return {
            "name": self.record.name,
            "version": self.record.version,
            "digest": self.digest,
            "alias": self.record.alias,
        }


class Models:
    """Holder of the roll-out that serves. Batches lease it; what is replaced retires when its last lease ends.

    Args:
        on_retired: told of each version that no batch uses any more.
        on_replaced: told whenever something else serves than before.
    """

    def __init__(
        self, on_retired: Callable[[ModelVersion], None], on_replaced: Callable[[], None] = lambda: None
    ) -> None:
        self._on_replaced = on_replaced
        self._current: Rollout[ModelVersion] | None = None
        self._on_retired = on_retired
        self._leases: Counter[ModelVersion] = Counter()
        self._changed = asyncio.Event()

    @property
    def current(self) -> Rollout[ModelVersion] | None:
        """What serves now; None before the first version is valid."""
        return self._current

    def replace(self, rollout: Rollout[ModelVersion]) -> None:
        """Let `rollout` serve from the next lease on."""
        before, self._current = self._current, rollout
        self._changed.set()
        self._on_replaced()
        for version in before.versions if before else ():
            self._retire_if_unused(version)

    def drop(self, version: ModelVersion) -> None:
        """Stop serving a version in whatever part it plays, except as production."""
        current = self._current
        if current is None or version not in (current.canary, current.shadow):
            return
        canary = None if current.canary is version else current.canary
        shadow = None if current.shadow is version else current.shadow
        self.replace(Rollout(current.primary, canary, current.canary_weight if canary else 0.0, shadow))

    async def replaced(self, rollout: Rollout[ModelVersion]) -> None:
        """Wait until something else than this roll-out serves."""
        while self._current is rollout:
            self._changed.clear()
            await self._changed.wait()

    @contextmanager
    def lease(self) -> Iterator[Rollout[ModelVersion]]:
        """The roll-out for one micro-batch; it stays usable until the lease ends, whatever is swapped meanwhile."""
        rollout = self._current
        assert rollout is not None, "the worker does not consume without a model"
        self._leases.update(rollout.versions)
        try:
            yield rollout
        finally:
            self._leases.subtract(rollout.versions)
            for version in rollout.versions:
                self._retire_if_unused(version)

    def _retire_if_unused(self, version: ModelVersion) -> None:
        serving = self._current is not None and version in self._current.versions
        if not serving and self._leases[version] <= 0:
            self._leases.pop(version, None)
            self._on_retired(version)
