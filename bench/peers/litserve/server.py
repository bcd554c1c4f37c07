"""A LitServe server: one worker that takes batches, raw bytes in and out."""

# mypy: disable-error-code="import-not-found, misc, no-any-unimported"
# The library lives in the peer's own environment, not in the one that checks types.

import os
from collections.abc import Sequence
from typing import Annotated

import litserve
from fastapi import Depends, Request, Response

from bench.peers.dialects import OCTETS, pack_answer, unpack_job
from bench.peers.outcomes import PeerSettings
from bench.recipe import Answer, RawJob, Recipe


async def raw_body(request: Request) -> bytes:
    """The body as it came: LitServe reads JSON or forms unless the type of `request` says otherwise."""
    return await request.body()


class Locator(litserve.LitAPI):
    """Frames to answers."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - the library's own signature
        """Load the model in the process that computes."""
        settings = PeerSettings.from_environment()
        self.recipe = Recipe(settings.model, settings.threads)

    def decode_request(self, request: Annotated[bytes, Depends(raw_body)]) -> RawJob:
        """One frame."""
        return unpack_job(request)

    def batch(self, inputs: Sequence[RawJob]) -> list[RawJob]:
        """Jobs have no tensor to stack yet."""
        return list(inputs)

    def predict(self, x: Sequence[RawJob]) -> list[Answer]:
        """One batch."""
        return self.recipe.locate(x)

    def unbatch(self, output: list[Answer]) -> list[Answer]:
        """An answer for each job."""
        return output

    def encode_response(self, output: Answer) -> Response:
        """Two lines."""
        return Response(pack_answer(output), media_type=OCTETS)


if __name__ == "__main__":
    given = PeerSettings.from_environment()
    api = Locator(max_batch_size=given.max_batch, batch_timeout=given.window_s)
    server = litserve.LitServer(api, accelerator="cpu", devices=1, workers_per_device=1, fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        num_api_servers=1,
        log_level="warning",
        access_log=False,
        generate_client_file=False,
    )
