"""Scenes as jobs: what a simulated network would publish, and the truth to compare the answer with."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from examples.network import Network
from examples.propagation import Scenes, draw_scenes
from examples.simulator import SAMPLE_RATE_HZ, SAMPLES, Datatype, Reception, receive

EXTENSION: Final = {"name": "heimdall", "version": "1.0.0", "optional": False}
# Fixed, so that the same seed gives the same bytes.
FIRST_CAPTURE: Final = datetime(2025, 6, 1, 12, 0, 0, tzinfo=UTC)
CAPTURE_INTERVAL: Final = timedelta(milliseconds=200)


class FreshScene(NamedTuple):
    """One job and its truth.

    Attributes:
        metadata: SigMF metadata of the recording.
        body: its dataset, channels interleaved.
        latitude_deg: of the transmitter.
        longitude_deg: of the transmitter.
    """

    metadata: dict[str, Any]
    body: bytes
    latitude_deg: float
    longitude_deg: float


def receivers_json(
    network: Network, present: npt.NDArray[np.bool_], full_scale_dbm: npt.NDArray[np.float64]
) -> list[dict[str, Any]]:
    """The field `heimdall:receivers`: who recorded each channel, and at which level."""
    sites = [site for site, here in zip(network.sites, present, strict=True) if here]
    return [
        {
            "id": site.id,
            "geolocation": {
                "type": "Point",
                "coordinates": [site.longitude_deg, site.latitude_deg, site.altitude_m],
            },
            "full_scale_dbm": float(level),
        }
        for site, level in zip(sites, full_scale_dbm, strict=True)
    ]


def sigmf_metadata(network: Network, reception: Reception, datatype: Datatype, captured: datetime) -> dict[str, Any]:
    """SigMF metadata of a reception."""
    return {
        "global": {
            "core:datatype": datatype,
            "core:sample_rate": SAMPLE_RATE_HZ,
            "core:num_channels": len(reception.full_scale_dbm),
            "core:version": "1.2.0",
            "core:description": f"Simulated: {network.title}, narrow-band FM voice.",
            "core:extensions": [EXTENSION],
            "heimdall:receivers": receivers_json(network, reception.present, reception.full_scale_dbm),
        },
        "captures": [
            {
                "core:sample_start": 0,
                "core:frequency": network.frequency_hz,
                "core:datetime": captured.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            }
        ],
        "annotations": [],
    }


def interleaved(reception: Reception) -> bytes:
    """The dataset: sample by sample, each channel's I then Q (SigMF, "Dataset Format")."""
    return np.ascontiguousarray(reception.codes.swapaxes(0, 1)).tobytes()


def fresh_draws(network: Network, count: int, seed: int) -> tuple[Scenes, list[np.random.SeedSequence]]:
    """What `fresh_scenes` of the same arguments records: its scenes, and the seed of each reception."""
    # A key of its own keeps these streams apart from those that training draws from the same number.
    scene_seed, *reception_seeds = np.random.SeedSequence([0xF4E5, seed]).spawn(count + 1)
    return draw_scenes(network, count, np.random.default_rng(scene_seed)), reception_seeds


def fresh_scenes(
    network: Network, count: int, seed: int, datatype: Datatype = "ci16_le", samples: int = SAMPLES
) -> Iterator[FreshScene]:
    """Scenes that no model was trained on, one job each; the same arguments give the same bytes.

    Args:
        network: whose receivers record.
        count: number of scenes.
        seed: of everything random.
        datatype: of the recording.
        samples: per receiver.
    """
    scenes, reception_seeds = fresh_draws(network, count, seed)
    truth = network.to_wgs84(scenes.truth_m)
    for index, reception_seed in enumerate(reception_seeds):
        reception = receive(
            network, scenes, index, np.random.default_rng(reception_seed), datatype=datatype, samples=samples
        )
        captured = FIRST_CAPTURE + index * CAPTURE_INTERVAL
        metadata = sigmf_metadata(network, reception, datatype, captured)
        yield FreshScene(metadata, interleaved(reception), float(truth[index, 1]), float(truth[index, 0]))
