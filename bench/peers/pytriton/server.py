"""A PyTriton server: Triton's own batcher before one Python callable."""

# mypy: disable-error-code="import-not-found, untyped-decorator"
# The library lives in the peer's own environment, not in the one that checks types.

import os
import signal

import numpy as np
from numpy.typing import NDArray
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from bench.peers.dialects import ANSWER, BODY, HEAD, pack_answer, unpack_job
from bench.peers.outcomes import PeerSettings
from bench.recipe import Recipe

settings = PeerSettings.from_environment()
recipe = Recipe(settings.model, settings.threads)


@batch
def locate(head: NDArray[np.uint8], body: NDArray[np.uint8]) -> dict[str, NDArray[np.object_]]:
    """One batch."""
    jobs = [unpack_job(h.tobytes())._replace(body=b.tobytes()) for h, b in zip(head, body, strict=True)]
    answers = [[pack_answer(answer)] for answer in recipe.locate(jobs)]
    return {ANSWER: np.array(answers, dtype=object)}


def main() -> None:
    """Serve until told to stop."""
    # It cleans up after an interrupt alone; ended otherwise it leaves its shared memory behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=int(os.environ["PORT"]),
        allow_grpc=False,
        allow_metrics=False,
        http_thread_count=2,
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="locate",
            infer_func=locate,
            inputs=[
                Tensor(name=HEAD, dtype=np.uint8, shape=(-1,)),
                Tensor(name=BODY, dtype=np.uint8, shape=(-1,)),
            ],
            outputs=[Tensor(name=ANSWER, dtype=bytes, shape=(1,))],
            config=ModelConfig(
                max_batch_size=settings.max_batch,
                batcher=DynamicBatcher(max_queue_delay_microseconds=round(1000 * settings.window_ms)),
            ),
            strict=False,
        )
        triton.serve()


if __name__ == "__main__":
    main()
