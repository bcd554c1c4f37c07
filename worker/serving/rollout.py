"""Which model version serves which job: an immutable reference, and a choice that is the same everywhere. Pure."""

import hashlib
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

Version = TypeVar("Version")

PRODUCTION: Final = "production"
CANARY: Final = "canary"
SHADOW: Final = "shadow"

_BUCKETS: Final = 10_000


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
