"""What the demo model hears: log-mel spectrograms of all receivers at their true level, and which receivers there are.

Training, calibration and evaluation go through `worker.dsp`, as serving does.
"""

import json
from collections.abc import Iterable
from typing import Any, Final

import numpy.typing as npt

from examples.scenes import FreshScene
from examples.simulator import SAMPLE_RATE_HZ, SAMPLES
from worker.dsp.log_mel import LogMel
from worker.reading import read_sigmf
from worker.recording import decode_capture
from worker.serving.contract import ModelContract
from worker.serving.contract_inputs import LogMelInput
from worker.serving.inputs import FeaturePlan, Tensors
from worker.serving.items import Item
from worker.serving.seating import Admission

N_MELS: Final = 31
FRAMES: Final = 31
MEAN_DB: Final = -90.0
STD_DB: Final = 25.0
N_FFT: Final = 256

# Linear bands of 1.5 kHz, centred on -22.5 … +22.5 kHz: a radio channel has no pitch to resolve. The floor is 40 dB
# below a receiver's own noise. Fixed statistics keep the level, which is all that a power tells about a position.
LOG_MEL_INPUT: Final[dict[str, Any]] = {
    "feature": "log_mel",
    "dtype": "float32",
    "axes": ["batch", "receiver", "mel", "frame"],
    "fill": 0.0,
    "signal": "iq",
    "n_fft": N_FFT,
    "hop": 128,
    "window": "hann",
    "sides": "two",
    "n_mels": N_MELS,
    "fmin": -24_000.0,
    "fmax": 24_000.0,
    "sample_rate": SAMPLE_RATE_HZ,
    "mel_scale": "linear",
    "filter_norm": "none",
    "power_scale": "1/n_fft",
    "floor": {"kind": "add", "value": 1e-16},
    "log": "db",
    "normalise": {"kind": "fixed", "mean": MEAN_DB, "std": STD_DB},
    "frames": {"count": FRAMES, "place": "start", "pad": "edge"},
    "receiver_padding": "fill",
}
MASK_INPUT: Final[dict[str, Any]] = {
    "feature": "receiver_mask",
    "dtype": "float32",
    "axes": ["batch", "receiver"],
    "fill": 0.0,
    "true_means": "present",
}
LOG_MEL: Final = LogMel(LogMelInput.model_validate(LOG_MEL_INPUT).spec)


class FeaturePath:
    """Recordings to the inputs of a graph, exactly as the worker does it.

    Args:
        contract: the model's.
    """

    def __init__(self, contract: ModelContract) -> None:
        self._plan = FeaturePlan(contract)
        self._admission = Admission(contract)
        self._level = contract.level

    def __call__(self, scenes: Iterable[FreshScene]) -> dict[str, npt.NDArray[Any]]:
        """Input tensors of a batch of scenes, one row each."""
        batch = list(scenes)
        tensors: Tensors = self._plan.allocate(len(batch), SAMPLES)
        for index, scene in enumerate(batch):
            self._plan.fill(tensors, index, self._item(scene))
        return self._plan.feed(tensors)

    def _item(self, scene: FreshScene) -> Item:
        recording = read_sigmf(json.dumps(scene.metadata), scene.body)
        self._admission.check(recording)
        capture = decode_capture(recording, 0, self._level)
        seats = self._admission.seat(capture.receivers, recording.channels, lambda: self._plan.powers(capture))
        return Item(capture, seats)
