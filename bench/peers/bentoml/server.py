"""A BentoML service with one batchable API."""

# mypy: disable-error-code="import-not-found, untyped-decorator"
# The library lives in the peer's own environment, not in the one that checks types.

import base64

import bentoml

from bench.peers.dialects import pack_answer, unpack_job
from bench.peers.outcomes import PeerSettings
from bench.recipe import Recipe

settings = PeerSettings.from_environment()
MAX_LATENCY_MS = 60_000
"""Its dispatcher refuses requests that it expects to take longer, and adapts its own waiting below that."""


@bentoml.service(
    workers=1,
    threads=1,
    traffic={"timeout": 60, "concurrency": settings.prefetch},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class Locator:
    """Frames to answers."""

    def __init__(self) -> None:
        self._recipe = Recipe(settings.model, settings.threads)

    @bentoml.api(batchable=True, max_batch_size=settings.max_batch, max_latency_ms=MAX_LATENCY_MS)
    def locate(self, jobs: list[str]) -> list[str]:
        """One batch; JSON carries the frames as base64."""
        found = self._recipe.locate([unpack_job(base64.b64decode(job)) for job in jobs])
        return [pack_answer(answer).decode() for answer in found]
