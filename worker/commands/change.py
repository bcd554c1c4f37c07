"""What an operator's command changed in the registry."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Change:
    """What was changed, and what a worker that follows the registry serves from then on.

    Attributes:
        said: each thing done, for people.
        parts: part → version, as `plan_rollout` reads the registry afterwards; empty where nothing can serve.
    """

    said: tuple[str, ...]
    parts: dict[str, str]
