"""A trained model as one ONNX file that carries its contract and golden vectors."""

import base64
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
import torch

from examples.card import LICENCE
from examples.features import FRAMES, N_MELS, FeaturePath
from examples.model import DemoModel
from examples.model_file import INPUTS, MIN_PRESENT, OUTPUTS, contract, write_contract
from examples.network import Network
from examples.scenes import FreshScene, fresh_scenes
from worker.serving.contract import ModelContract

OPSET: Final = 17
GOLDEN_SEED: Final = 20


def golden_scenes(network: Network) -> list[FreshScene]:
    """Three small recordings: all receivers, some absent, and the fewest that the model takes."""
    scenes = list(fresh_scenes(network, 40, GOLDEN_SEED, "ci8"))
    by_count = sorted(scenes, key=lambda scene: scene.metadata["global"]["core:num_channels"])
    return [by_count[-1], by_count[0], first_channels(by_count[0], MIN_PRESENT)]


def first_channels(scene: FreshScene, count: int) -> FreshScene:
    """The recording of the first receivers of a ci8 scene."""
    described = scene.metadata["global"]
    codes = np.frombuffer(scene.body, np.int8).reshape(-1, described["core:num_channels"], 2)
    kept = described | {
        "core:num_channels": count,
        "heimdall:receivers": described["heimdall:receivers"][:count],
    }
    body = np.ascontiguousarray(codes[:, :count]).tobytes()
    return scene._replace(metadata=scene.metadata | {"global": kept}, body=body)


def golden(session: onnxruntime.InferenceSession, path: FeaturePath, scene: FreshScene) -> dict[str, Any]:
    """A recording with the outputs that the model gives for it, without the batch axis."""
    rows = session.run(OUTPUTS, path([scene]))
    return {
        "sigmf": scene.metadata,
        "body": base64.b64encode(scene.body).decode(),
        "expected": {name: row[0].tolist() for name, row in zip(OUTPUTS, rows, strict=True)},
        "rtol": 1e-3,
        "atol": 1e-2,
    }


def write_graph(model: DemoModel, network: Network, path: Path) -> None:
    """Export the graph with a free batch axis."""
    receivers = len(network.sites)
    example = (torch.zeros(2, receivers, N_MELS, FRAMES), torch.ones(2, receivers))
    torch.onnx.export(
        model,
        example,
        str(path),
        dynamo=False,
        opset_version=OPSET,
        input_names=list(INPUTS),
        output_names=list(OUTPUTS),
        dynamic_axes={name: {0: "batch"} for name in (*INPUTS, *OUTPUTS)},
    )


def export(model: DemoModel, network: Network, scale: float, training_scenes: int, path: Path) -> Path:
    """Write the model, its contract and its golden vectors to one file.

    Args:
        model: trained.
        network: whose receivers it knows.
        scale: factor on its standard deviations, from calibration.
        training_scenes: for the card.
        path: of the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_graph(model, network, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    document = contract(network, scale)
    document["card"] = {"data": "simulated", "licence": LICENCE, "training_samples": training_scenes}
    features = FeaturePath(ModelContract.model_validate(document))
    document["golden"] = [golden(session, features, scene) for scene in golden_scenes(network)]
    write_contract(path, document)
    return path
