"""Sound model contracts, as they stand before they are spoilt."""

from random import Random
from typing import Any


def recording_contract(rng: Random | None = None) -> dict[str, Any]:
    """A contract for any receivers, with a spectrogram of random figures."""
    rng = rng or Random(0)  # noqa: S311 - nothing secret
    n_fft = rng.choice((64, 128, 256))
    return {
        "version": "1",
        "sample_rate": 48_000.0,
        "min_samples": 4,
        "area": [5.0, 43.0, 10.0, 47.0],
        "receivers": {"set": {"max": 4, "keep": "strongest"}, "min_present": 1},
        "inputs": {
            "mel": {
                "feature": "log_mel",
                "axes": ["batch", "receiver", "mel", "frame"],
                "n_fft": n_fft,
                "hop": rng.choice((32, n_fft)),
                "n_mels": rng.choice((4, 8)),
                "fmin": -24_000.0,
                "fmax": 24_000.0,
                "sample_rate": 48_000.0,
                "mel_scale": rng.choice(("htk", "slaney", "linear")),
                "floor": {"kind": "add", "value": 1e-6},
                "frames": {"count": rng.choice((1, 8)), "place": "centre", "pad": "reflect"},
            },
            "mask": _mask(),
        },
        "position": {"output": "position", "frame": "wgs84_deg", "axes": ["latitude", "longitude"]},
        "uncertainty": {"output": "sigma", "kind": rng.choice(("sigma", "variance", "cholesky"))},
        "card": {"accuracy_m": 100.0},
    }


def slots_contract(rng: Random | None = None) -> dict[str, Any]:
    """A contract for three fixed receivers, with figures per receiver and an area that is a polygon."""
    rng = rng or Random(0)  # noqa: S311 - nothing secret
    ring = [[5.0, 43.0], [10.0, 43.0], [10.0, 47.0], [5.0, 47.0], [5.0, 43.0]]
    slots = [
        {"id": f"rx{index}", "geolocation": {"type": "Point", "coordinates": [7.0 + index, 45.0]}} for index in range(3)
    ]
    columns = ("snr_db", "psd_dbm_hz", "north_m", "delta_lat", "center_frequency")
    return {
        "version": "1",
        "sample_rate": None,
        "area": {"type": "Polygon", "coordinates": [ring]},
        "level": rng.choice(("dbfs", "dbm")),
        "receivers": {"slots": slots, "min_present": 2},
        "inputs": {
            "features": {
                "feature": "receiver_features",
                "axes": ["batch", "receiver", "column"],
                "columns": [{"name": name, "offset": 1.0, "scale": 2.0, "clip": [0.0, 1.0]} for name in columns],
            },
            "ids": {
                "feature": "receiver_ids",
                "dtype": "int64",
                "axes": ["batch", "receiver"],
                "table": {"rx0": 0, "rx1": 1, "rx2": 2},
            },
            "iq": {"feature": "iq", "axes": ["batch", "receiver", "iq", "sample"], "length": 64},
            "mask": _mask(),
        },
        "position": {"output": "p", "frame": "enu_m", "origin": "centroid", "axes": ["north", "east"], "scale": [2, 3]},
        "uncertainty": {"output": "u", "kind": "log_variance", "of": "total", "scale": 1.5},
        "confidence": {"output": "c"},
        "golden": [{"tensors": {"mask": [[True, True, False]]}, "expected": {"p": [[1.0, 2.0]]}}],
    }


def _mask() -> dict[str, Any]:
    return {"feature": "receiver_mask", "dtype": "bool", "axes": ["batch", "receiver"], "true_means": "present"}
