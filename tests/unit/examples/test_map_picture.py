"""The map of a demo run."""

from pathlib import Path

import numpy as np
import pytest

from examples.map_picture import draw, read, summary
from examples.network import NETWORKS, Network
from examples.propagation import draw_scenes


def results(network: Network, fixes_m: np.ndarray) -> dict:
    """Fixes with circles of 5 km as ellipses, as a FeatureCollection."""
    features = []
    angle = np.linspace(0, 2 * np.pi, 33)
    for fix in fixes_m:
        ring = network.to_wgs84(fix + 5_000 * np.column_stack([np.cos(angle), np.sin(angle)]))
        features += [
            {"geometry": {"type": "Polygon", "coordinates": [ring.tolist()]},
             "properties": {"kind": "ellipse", "confidence": 0.9}},
            {"geometry": {"type": "Point", "coordinates": network.to_wgs84(fix[np.newaxis])[0].tolist()},
             "properties": {"kind": "fix"}},
        ]  # fmt: skip
    return {"type": "FeatureCollection", "features": features}


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS.keys())
def test_a_picture_is_written(network: Network, tmp_path: Path) -> None:
    """A PNG of some size, with fixes or without."""
    truth_m = draw_scenes(network, 5, np.random.default_rng(1)).truth_m
    truths = [(latitude, longitude) for longitude, latitude in network.to_wgs84(truth_m)]
    draw(results(network, truth_m + 1_000.0), truths, network, tmp_path / "map.png")
    draw({"type": "FeatureCollection", "features": []}, [], network, tmp_path / "empty.png")
    assert (tmp_path / "map.png").stat().st_size > (tmp_path / "empty.png").stat().st_size > 10_000


def test_summary_counts_truths_inside_their_ellipse() -> None:
    """Two fixes 1 km off and one 10 km off, with circles of 5 km."""
    network = NETWORKS["torino"]
    truth_m = np.zeros((3, 2))
    truths = [(latitude, longitude) for longitude, latitude in network.to_wgs84(truth_m)]
    fixes_m = np.array([[1_000.0, 0.0], [0.0, -1_000.0], [10_000.0, 0.0]])
    line = summary(read(results(network, fixes_m), truths, network))
    assert line == "3 transmitters, median error 1.0 km, 2 inside their 90% ellipse"
