"""An inference runtime for MLServer."""

# mypy: disable-error-code="import-not-found, misc, no-any-unimported"
# The library lives in the peer's own environment, not in the one that checks types.

import asyncio
import base64
from concurrent.futures import ThreadPoolExecutor

from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput

from bench.peers.dialects import ANSWER, pack_answer, unpack_job
from bench.peers.outcomes import PeerSettings
from bench.recipe import Answer, Recipe


class Locator(MLModel):
    """Frames to answers. MLServer hands over several requests as one, their elements one after the other."""

    async def load(self) -> bool:
        """Load the model; one thread computes, so that the loop goes on reading."""
        settings = PeerSettings.from_environment()
        self._recipe = Recipe(settings.model, settings.threads)
        self._thread = ThreadPoolExecutor(max_workers=1)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """One batch."""
        elements = list(payload.inputs[0].data.root)
        answers = await asyncio.get_running_loop().run_in_executor(self._thread, self._locate, elements)
        data = [pack_answer(answer).decode() for answer in answers]
        output = ResponseOutput(name=ANSWER, shape=[len(data), 1], datatype="BYTES", data=data)
        return InferenceResponse(model_name=self.name, outputs=[output])

    def _locate(self, elements: list[str]) -> list[Answer]:
        return self._recipe.locate([unpack_job(base64.b64decode(element)) for element in elements])
