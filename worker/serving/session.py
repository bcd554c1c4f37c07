"""An ONNX Runtime session, and whether its graph is what the contract says."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from worker.errors import ModelRejected
from worker.serving.contract import ModelContract
from worker.serving.inputs import Tensors
from worker.serving.outputs import check_components

_ONNX_TYPES: Final = {
    "float32": "tensor(float)",
    "float64": "tensor(double)",
    "float16": "tensor(float16)",
    "int64": "tensor(int64)",
    "int32": "tensor(int32)",
    "bool": "tensor(bool)",
}
_ERRORS_ONLY: Final = 3


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """How sessions are run.

    Attributes:
        providers: execution providers, best first.
        intra_op_threads: threads of one run; never left to the library, which counts the host's cores.
    """

    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    intra_op_threads: int = 1


class OnnxSession:
    """One loaded graph. Runs may come from several threads.

    Args:
        path: of the verified file. Never bytes: loading those blocks the caller ten times longer.
        options: providers and threads.

    Raises:
        ModelRejected: the runtime cannot load it, or lacks an asked provider.
    """

    def __init__(self, path: Path, options: SessionOptions) -> None:
        missing = set(options.providers) - set(ort.get_available_providers())
        if missing:
            raise ModelRejected(f"this onnxruntime has no {sorted(missing)}; it has {ort.get_available_providers()}")
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = options.intra_op_threads
        settings.inter_op_num_threads = 1
        settings.log_severity_level = _ERRORS_ONLY
        # Spinning threads would burn the core that decodes the next batch.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(str(path), settings, providers=list(options.providers))
        except Exception as error:
            raise ModelRejected(f"onnxruntime cannot load the model: {_brief(error)}") from error
        self.full_batch_s = float("inf")
        """How long a run of the largest batch takes, once `worker.serving.loading.warm_up` has measured it."""
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)

    def run(self, outputs: Sequence[str], feed: Tensors) -> dict[str, NDArray[np.generic]]:
        """One run of the graph.

        Returns:
            The named outputs.

        Raises:
            RuntimeError: the graph failed on this input.
        """
        try:
            values = self._session.run(list(outputs), feed)
        except Exception as error:
            raise RuntimeError(f"the model failed: {_brief(error)}") from error
        return dict(zip(outputs, values, strict=True))

    def check(self, contract: ModelContract) -> None:
        """Compare the graph with the contract.

        Raises:
            ModelRejected: naming the first input or output that differs, and what it should be.
        """
        graph = {node.name: node for node in self._session.get_inputs()}
        if set(graph) != set(contract.inputs):
            raise ModelRejected(f"the graph takes {sorted(graph)}, the contract feeds {sorted(contract.inputs)}")
        for name, bound in contract.inputs.items():
            _check_input(name, graph[name], bound.dtype, bound.axes, _sizes(contract, name))
        found = {node.name: node for node in self._session.get_outputs()}
        for name in contract.outputs:
            if name not in found:
                raise ModelRejected(f"the graph has no output {name!r}; it has {sorted(found)}")
        components = found[contract.uncertainty.output].shape[1:]
        if len(components) == 1 and isinstance(components[0], int):
            try:
                check_components(contract, components[0])
            except ValueError as error:
                raise ModelRejected(str(error)) from None


def _sizes(contract: ModelContract, name: str) -> dict[str, int]:
    bound = contract.inputs[name]
    sizes = {"receiver": contract.capacity, "iq": 2}
    for axis, attribute in (("mel", "n_mels"), ("sample", "length")):
        if hasattr(bound, attribute):
            sizes[axis] = getattr(bound, attribute)
    frames, columns = getattr(bound, "frames", None), getattr(bound, "columns", None)
    return sizes | ({"frame": frames.count} if frames else {}) | ({"column": len(columns)} if columns else {})


def _check_input(name: str, node: ort.NodeArg, dtype: str, axes: Sequence[str], sizes: dict[str, int]) -> None:
    if node.type != _ONNX_TYPES[dtype]:
        raise ModelRejected(f"input {name!r} is {node.type} in the graph, {dtype} in the contract")
    if len(node.shape) != len(axes):
        raise ModelRejected(f"input {name!r} has the shape {node.shape} in the graph, the axes {axes} in the contract")
    for axis, size in zip(axes, node.shape, strict=True):
        if axis == "batch" and isinstance(size, int):
            raise ModelRejected(f"input {name!r} has a fixed batch of {size}: export it with a dynamic batch axis")
        if isinstance(size, int) and sizes.get(axis, size) != size:
            raise ModelRejected(f"input {name!r}: axis {axis} is {size} in the graph, {sizes[axis]} in the contract")


def _brief(error: Exception, most: int = 400) -> str:
    return " ".join(str(error).split())[:most]
