"""A Mosec server: one worker that takes batches."""

# mypy: disable-error-code="import-not-found, misc, no-any-unimported"
# The library lives in the peer's own environment, not in the one that checks types.

from collections.abc import Sequence

from mosec import Server, Worker

from bench.peers.dialects import OCTETS, pack_answer, unpack_job
from bench.peers.outcomes import PeerSettings
from bench.recipe import Recipe

settings = PeerSettings.from_environment()


class Locator(Worker):
    """Frames to answers."""

    resp_mime_type = OCTETS

    def __init__(self) -> None:
        super().__init__()
        self._recipe = Recipe(settings.model, settings.threads)

    def deserialize(self, data: bytes) -> bytes:
        """Bytes as they came."""
        return data

    def serialize(self, data: bytes) -> bytes:
        """Bytes as they go."""
        return data

    def forward(self, data: Sequence[bytes]) -> list[bytes]:
        """One batch."""
        return [pack_answer(answer) for answer in self._recipe.locate([unpack_job(frame) for frame in data])]


if __name__ == "__main__":
    server = Server()
    wait_ms = max(1, round(settings.window_ms))
    server.append_worker(Locator, num=1, max_batch_size=settings.max_batch, max_wait_time=wait_ms)
    server.run()
