"""A trained locator as one ONNX file that carries its contract, golden vectors, and what the evaluation needs."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime

from examples.features import FeaturePath
from examples.model_file import write_contract
from examples.powder.graph import INPUTS, OUTPUTS, build
from examples.powder.iq import SAMPLE_RATE_HZ, SAMPLES, as_ci16, receive
from examples.powder.survey import Array
from examples.powder.training import MIN_PRESENT, Locator
from examples.scenes import EXTENSION, FreshScene
from worker.geo.wgs84 import wgs84_to_enu
from worker.serving.contract import ModelContract

CENTRE_FREQUENCY_HZ: Final = 462.7e6
SOURCE: Final = "https://doi.org/10.5281/zenodo.7259895"
N_FFT: Final = 200
HOP: Final = 50
# Triangles every 500 Hz sum to a flat band of 5.5 kHz with sloping edges: 6 kHz of noise pass, as in the campaign.
BANDS: Final = 12
BAND_EDGE_HZ: Final = 3_250.0
MEAN_DB: Final = -80.0
STD_DB: Final = 25.0
_MARGIN_DEG: Final = 0.005
GOLDEN_SEED: Final = 7


@dataclass(frozen=True)
class Campus:
    """The receivers that stand still, in the order of the model's slots.

    Attributes:
        ids: of the receivers (R).
        latitude_deg: of the receivers (R,).
        longitude_deg: of the receivers (R,).
        noise_db: floor of each receiver in the 6 kHz filter (R,).
    """

    ids: tuple[str, ...]
    latitude_deg: Array
    longitude_deg: Array
    noise_db: Array

    @property
    def origin(self) -> tuple[float, float]:
        """Latitude and longitude of the local frame: mean of the receivers, degrees to four places."""
        return round(float(np.mean(self.latitude_deg)), 4), round(float(np.mean(self.longitude_deg)), 4)

    def to_enu_m(self, latitude_deg: Array, longitude_deg: Array) -> Array:
        """East and north of the origin, metres (n, 2)."""
        return np.column_stack(wgs84_to_enu(*self.origin, latitude_deg, longitude_deg))

    def receiver(self, index: int) -> dict[str, Any]:
        """One receiver as `heimdall:receivers` and the contract's slots name it."""
        place = [float(self.longitude_deg[index]), float(self.latitude_deg[index])]
        return {"id": self.ids[index], "geolocation": {"type": "Point", "coordinates": place}}


def contract(campus: Campus, scale: float, card: dict[str, Any]) -> dict[str, Any]:
    """The model contract, without golden vectors."""
    latitude, longitude = campus.origin
    return {
        "version": "1",
        "sample_rate": SAMPLE_RATE_HZ,
        "min_samples": SAMPLES,
        "area": _area(campus),
        "level": "dbfs",
        "receivers": {"slots": [campus.receiver(i) for i in range(len(campus.ids))], "min_present": MIN_PRESENT},
        "inputs": dict(zip(INPUTS, (_LOG_MEL, _MASK), strict=True)),
        "position": {
            "output": OUTPUTS[0],
            "frame": "enu_m",
            "origin": {"latitude": latitude, "longitude": longitude},
            "axes": ["east", "north"],
            "scale": [1e3, 1e3],
        },
        "uncertainty": {"output": OUTPUTS[1], "kind": "cholesky", "of": "axis", "scale": scale},
        "card": card | {"noise_db": dict(zip(campus.ids, campus.noise_db.round(2).tolist(), strict=True))},
    }


_LOG_MEL: Final[dict[str, Any]] = {
    "feature": "log_mel",
    "dtype": "float32",
    "axes": ["batch", "receiver", "mel", "frame"],
    "fill": 0.0,
    "signal": "iq",
    "n_fft": N_FFT,
    "hop": HOP,
    "window": "hann",
    "sides": "two",
    "n_mels": BANDS,
    "fmin": -BAND_EDGE_HZ,
    "fmax": BAND_EDGE_HZ,
    "sample_rate": SAMPLE_RATE_HZ,
    "mel_scale": "linear",
    "filter_norm": "none",
    "power_scale": "1/n_fft",
    "floor": {"kind": "add", "value": 1e-13},
    "log": "db",
    "normalise": {"kind": "fixed", "mean": MEAN_DB, "std": STD_DB},
    "frames": {"count": 1 + (SAMPLES - N_FFT) // HOP, "place": "start", "pad": "edge"},
    "receiver_padding": "fill",
}
_MASK: Final[dict[str, Any]] = {
    "feature": "receiver_mask",
    "dtype": "float32",
    "axes": ["batch", "receiver"],
    "fill": 0.0,
    "true_means": "present",
}


def _area(campus: Campus) -> list[float]:
    west, east = campus.longitude_deg.min() - _MARGIN_DEG, campus.longitude_deg.max() + _MARGIN_DEG
    south, north = campus.latitude_deg.min() - _MARGIN_DEG, campus.latitude_deg.max() + _MARGIN_DEG
    return [round(float(edge), 4) for edge in (west, south, east, north)]


def sigmf_of(campus: Campus, present: Sequence[int], description: str) -> dict[str, Any]:
    """SigMF metadata of a recording by some of the receivers.

    It has no `core:datetime`: the data set does not name the time zone of its times.
    """
    return {
        "global": {
            "core:datatype": "ci16_le",
            "core:sample_rate": SAMPLE_RATE_HZ,
            "core:num_channels": len(present),
            "core:version": "1.2.0",
            "core:description": description,
            "core:extensions": [EXTENSION],
            "heimdall:receivers": [campus.receiver(index) for index in present],
        },
        "captures": [{"core:sample_start": 0, "core:frequency": CENTRE_FREQUENCY_HZ}],
        "annotations": [],
    }


def export(locator: Locator, campus: Campus, card: dict[str, Any], path: Path) -> Path:
    """Write a locator, its contract and its golden vectors to one file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    model = build(locator.ensemble, locator.sites_km, (BANDS, MEAN_DB, STD_DB, N_FFT))
    onnx.save(model, path)
    document = contract(campus, locator.scale, card)
    feature_path = FeaturePath(ModelContract.model_validate(document))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    document["golden"] = [_golden(session, feature_path, scene) for scene in _golden_scenes(campus)]
    write_contract(path, document)
    return path


def _golden_scenes(campus: Campus) -> list[FreshScene]:
    """Two recordings at invented powers: nearly every receiver, and the fewest that the model takes."""
    rng = np.random.default_rng(GOLDEN_SEED)
    scenes = []
    for count in (min(12, len(campus.ids)), MIN_PRESENT):
        present = np.sort(rng.choice(len(campus.ids), count, replace=False))
        iq = receive(rng.uniform(-90.0, -45.0, count), campus.noise_db[present], rng)
        scenes.append(FreshScene(sigmf_of(campus, present.tolist(), "Golden vector."), as_ci16(iq), 0.0, 0.0))
    return scenes


def _golden(session: onnxruntime.InferenceSession, path: FeaturePath, scene: FreshScene) -> dict[str, Any]:
    rows = session.run(OUTPUTS, path([scene]))
    return {
        "sigmf": scene.metadata,
        "body": base64.b64encode(scene.body).decode(),
        "expected": {name: row[0].tolist() for name, row in zip(OUTPUTS, rows, strict=True)},
        "rtol": 1e-3,
        "atol": 2e-3,
    }


def campus_of(document: dict[str, Any]) -> Campus:
    """The receivers of a model file, from its contract."""
    slots = document["receivers"]["slots"]
    places = np.array([slot["geolocation"]["coordinates"] for slot in slots], np.float64)
    ids = tuple(str(slot["id"]) for slot in slots)
    noise_db = np.array([document["card"]["noise_db"][name] for name in ids], np.float64)
    return Campus(ids, places[:, 1], places[:, 0], noise_db)
