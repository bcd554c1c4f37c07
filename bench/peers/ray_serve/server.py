"""A Ray Serve application: one replica with a batched method."""

# mypy: disable-error-code="import-not-found, untyped-decorator, no-any-unimported"
# The library lives in the peer's own environment, not in the one that checks types.

import os
import tempfile
import threading
from collections.abc import Sequence

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from bench.peers.dialects import OCTETS, pack_answer, unpack_job
from bench.peers.outcomes import PeerSettings
from bench.recipe import Recipe

settings = PeerSettings.from_environment()


@serve.deployment(
    num_replicas=1,
    max_ongoing_requests=settings.prefetch,
    ray_actor_options={"num_cpus": 1},
    logging_config={"enable_access_log": False},
)
class Locator:
    """Frames to answers."""

    def __init__(self) -> None:
        self._recipe = Recipe(settings.model, settings.threads)

    @serve.batch(max_batch_size=settings.max_batch, batch_wait_timeout_s=settings.window_s)
    async def locate(self, frames: Sequence[bytes]) -> list[bytes]:
        """One batch."""
        return [pack_answer(answer) for answer in self._recipe.locate([unpack_job(frame) for frame in frames])]

    async def __call__(self, request: Request) -> Response:
        """One request; it becomes part of a batch."""
        return Response(await self.locate(await request.body()), media_type=OCTETS)


def main() -> None:
    """Serve until told to stop."""
    with tempfile.TemporaryDirectory(prefix="ray-") as directory:
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            _node_ip_address="127.0.0.1",
            _temp_dir=directory,
        )
        try:
            options = {"host": "127.0.0.1", "port": int(os.environ["PORT"])}
            serve.start(http_options=options, logging_config={"enable_access_log": False})
            serve.run(Locator.bind())  # type: ignore[attr-defined] # The decorator adds it.
            threading.Event().wait()  # Ray turns SIGTERM into an exit.
        finally:
            ray.shutdown()


if __name__ == "__main__":
    main()
