"""The contract of a demo model, and the ONNX file that carries it."""

import json
from pathlib import Path
from typing import Any, Final

import onnx

from examples.features import LOG_MEL_INPUT, MASK_INPUT
from examples.network import Network
from examples.simulator import SAMPLE_RATE_HZ, SAMPLES
from worker.serving.contract import METADATA_KEY, ModelContract

INPUTS: Final = ("log_mel", "receiver_mask")
OUTPUTS: Final = ("position", "cholesky")
MIN_PRESENT: Final = 3


def contract(network: Network, scale: float) -> dict[str, Any]:
    """The model contract, without golden vectors and card."""
    latitude, longitude = network.origin
    slots = [
        {
            "id": site.id,
            "geolocation": {"type": "Point", "coordinates": [site.longitude_deg, site.latitude_deg, site.altitude_m]},
        }
        for site in network.sites
    ]
    return {
        "version": "1",
        "sample_rate": SAMPLE_RATE_HZ,
        "min_samples": SAMPLES,
        "area": network.area_geojson,
        "level": "dbm",
        "receivers": {"slots": slots, "min_present": MIN_PRESENT},
        "inputs": {"log_mel": LOG_MEL_INPUT, "receiver_mask": MASK_INPUT},
        "position": {
            "output": "position",
            "frame": "enu_m",
            "origin": {"latitude": latitude, "longitude": longitude},
            "axes": ["east", "north"],
            "scale": [1000.0, 1000.0],
        },
        "uncertainty": {"output": "cholesky", "kind": "cholesky", "of": "axis", "scale": scale},
    }


def read_contract(path: Path) -> dict[str, Any]:
    """The contract inside a model file."""
    model = onnx.load(path, load_external_data=False)
    texts = {entry.key: entry.value for entry in model.metadata_props}
    document: dict[str, Any] = json.loads(texts[METADATA_KEY])
    return document


def write_contract(path: Path, document: dict[str, Any]) -> None:
    """Validate a contract and put it inside a model file, in place of one that is there."""
    ModelContract.model_validate(document)
    model = onnx.load(path, load_external_data=False)
    del model.metadata_props[:]
    model.metadata_props.add(key=METADATA_KEY, value=json.dumps(document, ensure_ascii=False, separators=(",", ":")))
    onnx.checker.check_model(model)
    onnx.save(model, path)
