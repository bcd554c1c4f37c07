"""Changes of the roll-out in the registry, each made once by an operator with an operator's credentials. Blocking."""

from collections.abc import Callable
from typing import Any

from worker.commands.change import Change
from worker.errors import ModelRejected
from worker.serving.registry import PARTS, Registry
from worker.serving.rollout import (
    CANARY,
    FAILED_TAG,
    PAUSED_TAG,
    PREVIOUS_TAG,
    PRODUCTION,
    SHADOW,
    WEIGHT_TAG,
    RegistryView,
    plan_rollout,
)


class Rollouts(Registry):
    """The registry, written to. Every change may be made twice: the second changes nothing.

    Every method raises `ModelRejected` where the registry or the state of things refuses, and `Unavailable` where the
    registry does not answer.
    """

    def parts(self) -> dict[str, str]:
        """Part → version, as workers read it; empty where nothing can serve."""
        return _parts(self.view())

    def promote(self, version: str) -> Change:
        """Let a version be production, and note which one served before it."""
        return self._change(lambda: self._promote(version))

    def rollback(self, user: str) -> Change:
        """Let the version before be production again, and mark the one that is left as failed."""
        return self._change(lambda: self._rollback(user))

    def canary(self, version: str, weight: float) -> Change:
        """Try a version on a share of the sessions, percent."""
        return self._change(lambda: self._canary(version, weight))

    def shadow(self, version: str) -> Change:
        """Run a version beside production, without effect on replies."""
        return self._change(lambda: self._try_out(SHADOW, version))

    def end(self, part: str) -> Change:
        """End the part of canary or shadow."""
        return self._change(lambda: self._end(part))

    def pause(self, user: str, reason: str) -> Change:
        """Let no worker take jobs, those to come included."""
        return self._change(lambda: self._pause(f"{user}: {reason}"))

    def resume(self) -> Change:
        """Let workers take jobs again."""
        return self._change(self._resume)

    def _change(self, act: Callable[[], list[str]]) -> Change:
        said = self._ask(act)
        return Change(tuple(said) or ("the registry says so already",), self.parts())

    def _promote(self, version: str) -> list[str]:
        view, found = self._view(), self._version(version)
        said = []
        before = _serves(view)
        # The tags come first: at no time is there a production version without the way back.
        if before not in {None, version}:
            said += self._tag(found, PREVIOUS_TAG, before or "")
        said += self._untag(found, FAILED_TAG)
        if view.aliases.get(PRODUCTION) != version or not self._has_alias(PRODUCTION):
            self._client().set_registered_model_alias(self._name, PRODUCTION, version)
            said.append(f"{PRODUCTION} is version {version}, was {view.aliases.get(PRODUCTION, 'none')}")
        if view.aliases.get(CANARY) == version:
            said += self._end(CANARY)
        return said

    def _rollback(self, user: str) -> list[str]:
        aliases = self._view().aliases
        if PRODUCTION not in aliases:
            raise ModelRejected(f"the registry names no version for {PRODUCTION}: there is nothing to roll back")
        left = self._version(aliases[PRODUCTION])
        previous = left.tags.get(PREVIOUS_TAG)
        if not previous:
            raise ModelRejected(f"version {left.version} has no tag {PREVIOUS_TAG}: promote the version to go back to")
        if reason := self._version(previous).tags.get(FAILED_TAG):
            raise ModelRejected(f"version {previous}, the one before, has failed ({reason}): promote another")
        # A version marked as failed gives way at once, so the mark comes first; a reason found there is kept.
        said = [] if FAILED_TAG in left.tags else self._tag(left, FAILED_TAG, f"rolled back by {user}")
        self._client().set_registered_model_alias(self._name, PRODUCTION, previous)
        return [*said, f"{PRODUCTION} is version {previous}, was {left.version}"]

    def _canary(self, version: str, weight: float) -> list[str]:
        self._refuse_production(CANARY, version)
        # The weight comes first: an alias without it, or with that of an earlier trial, would mean something else.
        said = self._tag(self._version(version), WEIGHT_TAG, f"{weight:g}")
        return said + self._try_out(CANARY, version)

    def _try_out(self, part: str, version: str) -> list[str]:
        self._refuse_production(part, version)
        said = self._untag(self._version(version), FAILED_TAG)
        before = self._view().aliases.get(part)
        if before == version:
            return said
        self._client().set_registered_model_alias(self._name, part, version)
        return [*said, f"{part} is version {version}, was {before or 'none'}"]

    def _refuse_production(self, part: str, version: str) -> None:
        if self._view().aliases.get(PRODUCTION) == version:
            raise ModelRejected(f"version {version} is {PRODUCTION}: it cannot be {part} as well")

    def _end(self, part: str) -> list[str]:
        version = self._view().aliases.get(part)
        if version is None:
            return []
        self._client().delete_registered_model_alias(self._name, part)
        said = [f"{part} is none, was version {version}"]
        return said + (self._untag(self._version(version), WEIGHT_TAG) if part == CANARY else [])

    def _pause(self, reason: str) -> list[str]:
        if self._view().paused == reason:
            return []
        self._client().set_registered_model_tag(self._name, PAUSED_TAG, reason)
        return [f"the fleet is paused ({reason})"]

    def _resume(self) -> list[str]:
        paused = self._view().paused
        if paused is None:
            return []
        self._client().delete_registered_model_tag(self._name, PAUSED_TAG)
        return [f"the fleet is no longer paused (was: {paused})"]

    def _version(self, version: str) -> Any:
        return self._client().get_model_version(self._name, version)

    def _has_alias(self, part: str) -> bool:
        """Whether the part comes from an alias, and not from a stage."""
        return part in self._client().get_registered_model(self._name).aliases

    def _tag(self, found: Any, name: str, value: str) -> list[str]:
        if found.tags.get(name) == value:
            return []
        self._client().set_model_version_tag(self._name, found.version, name, value)
        return [f"version {found.version}: {name} = {value}"]

    def _untag(self, found: Any, name: str) -> list[str]:
        if name not in found.tags:
            return []
        self._client().delete_model_version_tag(self._name, found.version, name)
        return [f"version {found.version}: {name} removed (was: {found.tags[name]})"]


def _serves(view: RegistryView) -> str | None:
    """The version that serves as production: not always the one the alias names, as that may have failed."""
    return _parts(view).get(PRODUCTION)


def _parts(view: RegistryView) -> dict[str, str]:
    try:
        plan = plan_rollout(view)
    except ModelRejected:
        return {}
    records = dict(zip(PARTS, (plan.primary, plan.canary, plan.shadow), strict=True))
    return {part: record.version for part, record in records.items() if record is not None}
