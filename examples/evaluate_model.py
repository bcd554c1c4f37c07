"""Evaluate a model on fresh scenes, every sample of their IQ simulated, and write its card.

    python -m examples.evaluate_model --network torino

Recordings go through the worker's own preprocessing and decoding. The errors are compared with the grid MMSE of the
same scenes (`examples.mmse`), and the figures written to the contract inside the model and to a model card beside it.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime

from examples import card, mmse
from examples.features import FeaturePath
from examples.model_file import OUTPUTS, read_contract, write_contract
from examples.network import NETWORKS, Array, Network
from examples.scenes import FreshScene, fresh_draws, fresh_scenes
from worker.geo.wgs84 import wgs84_to_enu
from worker.serving.contract import ModelContract
from worker.serving.outputs import read_outputs

MODELS: Final = Path(__file__).parent / "models"
SCENES: Final = 2_000
SEED: Final = 2_025
CHUNK: Final = 50
BOOTSTRAPS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Errors:
    """Errors of a model's fixes.

    Attributes:
        east_north_m: truth minus fix (n, 2).
        squared: squared Mahalanobis distance of the truth from the fix (n,).
    """

    east_north_m: Array
    squared: Array

    @property
    def distance_m(self) -> Array:
        """Distance of the fix from the truth (n,)."""
        return np.asarray(np.hypot(*self.east_north_m.T))


def chunks(scenes: Iterator[FreshScene]) -> Iterator[list[FreshScene]]:
    """Scenes in batches that fit the memory."""
    while batch := list(islice(scenes, CHUNK)):
        yield batch


def locate(path: Path, network: Network, count: int, seed: int) -> Errors:
    """Locate fresh scenes with a model file, and compare with their truth."""
    contract = ModelContract.model_validate(read_contract(path))
    features = FeaturePath(contract)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    parts = [
        _errors(contract, session.run(OUTPUTS, features(batch)), batch, network.origin)
        for batch in chunks(fresh_scenes(network, count, seed))
    ]
    return Errors(np.concatenate([p.east_north_m for p in parts]), np.concatenate([p.squared for p in parts]))


def _errors(contract: ModelContract, rows: list[Array], batch: list[FreshScene], origin: tuple[float, float]) -> Errors:
    fixes = read_outputs(contract, dict(zip(OUTPUTS, rows, strict=True)), [origin] * len(batch))
    assert not any(fixes.faults), fixes.faults
    latitude = np.array([scene.latitude_deg for scene in batch])
    longitude = np.array([scene.longitude_deg for scene in batch])
    error = np.column_stack(wgs84_to_enu(fixes.latitude_deg, fixes.longitude_deg, latitude, longitude))
    whitened = np.linalg.solve(fixes.covariance_m2, error[..., np.newaxis])[..., 0]
    return Errors(error, (error * whitened).sum(axis=1))


def coverage(errors: Errors, confidence: float) -> float:
    """Share of truths inside the ellipse: the squared distance is chi-square, its quantile -2·ln(1 - p)."""
    return float(np.mean(errors.squared <= -2.0 * np.log1p(-confidence)))


def ratio_interval(error_m: Array, bound_m: Array, seed: int) -> tuple[float, float]:
    """95 % bootstrap interval of the ratio of medians, over scenes."""
    picks = np.random.default_rng(seed).integers(0, error_m.size, (BOOTSTRAPS, error_m.size))
    ratios = np.median(error_m[picks], axis=1) / np.median(bound_m[picks], axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(low), float(high)


def figures(errors: Errors, bound_m: Array, seed: int) -> card.Figures:
    """Everything that the card says of a model's accuracy."""
    error_m = errors.distance_m
    return card.Figures(
        scenes=error_m.size,
        seed=seed,
        median_error_m=float(np.median(error_m)),
        p90_error_m=float(np.quantile(error_m, 0.9)),
        rms_error_m=float(np.sqrt(np.mean(error_m**2))),
        bound_median_m=float(np.median(bound_m)),
        bound_rms_m=float(np.sqrt(np.mean(bound_m**2))),
        ratio_interval=ratio_interval(error_m, bound_m, seed),
        coverage={level: coverage(errors, level) for level in card.CONFIDENCES},
    )


def main() -> None:
    """Evaluate one network's model and write its card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=sorted(NETWORKS), default="torino")
    parser.add_argument("--scenes", type=int, default=SCENES)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--models", type=Path, default=MODELS)
    arguments = parser.parse_args()
    network, path = NETWORKS[arguments.network], arguments.models / f"{arguments.network}.onnx"
    errors = locate(path, network, arguments.scenes, arguments.seed)
    bound_m = mmse.errors_m(network, fresh_draws(network, arguments.scenes, arguments.seed)[0])
    found = figures(errors, bound_m, arguments.seed)
    document = read_contract(path)
    training_scenes = document["card"]["training_samples"]
    write_contract(path, document | {"card": card.contract_card(network, found, training_scenes)})
    text = card.markdown(network, found, training_scenes, path.stat().st_size)
    path.with_suffix(".card.md").write_text(text, "utf-8")
    print(card.one_line(network, found))


if __name__ == "__main__":
    main()
