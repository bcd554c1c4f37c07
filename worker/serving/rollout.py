"""Which model version serves which job: an immutable reference, and a choice that is the same everywhere. Pure."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Generic, TypeVar

from worker.errors import ModelRejected

Version = TypeVar("Version")

PRODUCTION: Final = "production"
CANARY: Final = "canary"
SHADOW: Final = "shadow"

WEIGHT_TAG: Final = "heimdall.canary_weight"
"""On the canary's version: share of sessions, percent."""
PREVIOUS_TAG: Final = "heimdall.previous"
"""On production's version: the version that served before it."""
FAILED_TAG: Final = "heimdall.failed"
"""On a version that was rolled back: why. The one tag that workers write."""
PAUSED_TAG: Final = "heimdall.paused"
"""On the registered model: no worker takes jobs; the value says who asked and why."""

_BUCKETS: Final = 10_000
_ALL: Final = 100.0


@dataclass(frozen=True, slots=True)
class Rollout(Generic[Version]):
    """The versions that serve, and how jobs are divided among them.

    Attributes:
        primary: the production version.
        canary: the version under trial, or None.
        canary_weight: share of sessions that go to the canary, percent.
        shadow: a version that is run beside, and never answers; or None.
    """

    primary: Version
    canary: Version | None = None
    canary_weight: float = 0.0
    shadow: Version | None = None

    def choose(self, key: str) -> Version:
        """The version for a session (or, without one, a job): always the same one while the roll-out stands."""
        if self.canary is not None and share_of(key) < self.canary_weight:
            return self.canary
        return self.primary

    @property
    def versions(self) -> tuple[Version, ...]:
        """All versions, production first."""
        return tuple(v for v in (self.primary, self.canary, self.shadow) if v is not None)


def share_of(key: str) -> float:
    """Place of a key on a scale of 0 to 100, the same in every process and on every machine."""
    digest = hashlib.sha256(key.encode()).digest()
    return int.from_bytes(digest[:8], "big") % _BUCKETS * 100.0 / _BUCKETS


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """What the registry says of a version.

    Attributes:
        digest: `sha256:…` of `model.onnx`, from the tag `heimdall.digest`.
        alias: the part it plays: `production` also where the registry says so by a stage.
        created_ms: Unix time, milliseconds.
        metrics: of its training run; what `/model/info` shows.
    """

    name: str
    version: str
    alias: str
    digest: str | None
    source: str
    run_id: str | None
    created_ms: int
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether it was rolled back."""
        return FAILED_TAG in self.tags


@dataclass(frozen=True, slots=True)
class RegistryView:
    """What the registry says, read at one time.

    Attributes:
        aliases: part → version.
        records: version → what is said of it, for every version an alias or a `heimdall.previous` names.
        paused: who paused the fleet and why, or None.
    """

    aliases: Mapping[str, str]
    records: Mapping[str, VersionRecord]
    paused: str | None = None


def plan_rollout(view: RegistryView) -> Rollout[VersionRecord]:
    """The roll-out that the registry's aliases and tags ask for.

    A version marked as failed plays no part: production's place is taken by the one before it.

    Raises:
        ModelRejected: no version can serve as production.
    """
    primary = _primary(view)
    canary, shadow = _part(view, CANARY, primary), _part(view, SHADOW, primary)
    weight = _weight(canary) if canary else 0.0
    return Rollout(primary, canary if weight else None, weight, shadow)


def _primary(view: RegistryView) -> VersionRecord:
    record = view.records.get(view.aliases.get(PRODUCTION, ""))
    if record is None:
        raise ModelRejected(f"the registry names no version for {PRODUCTION}: point that alias to the one to serve")
    if not record.failed:
        return record
    previous = view.records.get(record.tags.get(PREVIOUS_TAG, ""))
    if previous is None or previous.failed:
        raise ModelRejected(
            f"version {record.version} of production has failed ({record.tags[FAILED_TAG]}), "
            "and no version before it can take its place"
        )
    return replace(previous, alias=PRODUCTION)


def _part(view: RegistryView, alias: str, primary: VersionRecord) -> VersionRecord | None:
    record = view.records.get(view.aliases.get(alias, ""))
    if record is None or record.failed or record.version == primary.version:
        return None
    return replace(record, alias=alias)


def _weight(canary: VersionRecord) -> float:
    """The canary's share; one that is missing or no number from 0 to 100 gives it none."""
    try:
        weight = float(canary.tags.get(WEIGHT_TAG, "0"))
    except ValueError:
        return 0.0
    return weight if 0.0 <= weight <= _ALL else 0.0
