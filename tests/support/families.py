"""Stand-ins of the model families that the contract must be able to describe, with answers computed apart.

Each family is a graph with the names, shapes, types and dynamic axes of the real one, known weights, a contract, and
the same arithmetic in plain float64 numpy. Nothing here calls the worker: what is computed from a scene by the
formulas below is what the worker has to answer.
"""

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from pyproj import Geod

METADATA_KEY = "heimdall.contract"
OPSET = 14
RATE = 50_000.0
SAMPLES = 10_000
AREA = [6.738, 43.895, 9.623, 45.978]
PLANE = (111_000.0, 78_000.0)
"""Metres per degree of latitude and longitude on the plane that the triangulation model was trained on."""
PRESENT_FROM_DB = 10.0

Array = NDArray[np.float64]
Raw = dict[str, Array]
RECEIVER_AXES = ["batch", "receiver"]
COLUMN_AXES = ["batch", "receiver", "column"]


@dataclass(frozen=True)
class Place:
    """A receiver: degrees, metres, and the power of a full-scale tone."""

    name: str
    latitude: float
    longitude: float
    altitude: float
    full_scale_dbm: float


NETWORK = (
    Place("Giaveno", 45.03, 7.27, 600, -50),
    Place("Montanaro", 45.234, 7.857, 300, -55),
    Place("Torino", 45.044, 7.672, 250, -45),
    Place("Coazze", 45.048, 7.238, 700, -60),
    Place("Passo dei Giovi", 44.561, 8.956, 480, -52),
    Place("Genova", 44.395, 8.956, 100, -48),
    Place("Milano-Baggio", 45.478, 9.123, 120, -58),
)
FIELD = tuple(Place(f"field-{i}", 44.2 + 0.13 * i, 7.1 + 0.19 * i, 50.0 * i, -44.0 - 2 * i) for i in range(7))
EVERYBODY = NETWORK + FIELD


@dataclass(frozen=True)
class Scene:
    """What some receivers heard at once.

    Attributes:
        iq: complex64 (receivers, samples).
        places: one per row.
    """

    iq: NDArray[np.complex64]
    places: tuple[Place, ...]

    def of(self, rows: Sequence[int]) -> "Scene":
        """Some of the receivers."""
        return Scene(self.iq[list(rows)], tuple(self.places[row] for row in rows))

    def body(self) -> bytes:
        """As cf32_le, channels interleaved."""
        return self.iq.T.astype("<c8").tobytes()

    def sigmf(self) -> dict[str, Any]:
        """The metadata of the recording."""
        receivers = [
            {
                "id": place.name,
                "geolocation": {"type": "Point", "coordinates": [place.longitude, place.latitude, place.altitude]},
                "full_scale_dbm": place.full_scale_dbm,
            }
            for place in self.places
        ]
        info = {
            "core:datatype": "cf32_le",
            "core:sample_rate": RATE,
            "core:version": "1.2.0",
            "core:num_channels": len(self.places),
            "core:extensions": [{"name": "heimdall", "version": "1.0.0", "optional": False}],
            "heimdall:receivers": receivers,
        }
        return {"global": info, "captures": [{"core:sample_start": 0, "core:frequency": 145.5e6}], "annotations": []}


def scene(seed: int, places: Sequence[Place], samples: int = SAMPLES) -> Scene:
    """A fading, modulated carrier near the centre, at another level for each receiver; now and then only noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(samples)
    rows = []
    for _ in places:
        offset = rng.integers(-8, 9) / samples
        fading = 0.2 + np.sin(np.pi * (time / samples + rng.uniform(-0.4, 0.4))) ** 2
        envelope = fading * (1 + 0.5 * np.cos(2 * np.pi * rng.uniform(0.01, 0.05) * time))
        noise = (rng.normal(size=samples) + 1j * rng.normal(size=samples)) * 0.1
        carrier = envelope * np.exp(2j * np.pi * (offset * time + rng.uniform())) * (rng.uniform() < 0.8)
        rows.append((carrier + noise) * 10 ** (rng.uniform(-60, -10) / 20))
    return Scene(np.array(rows, dtype=np.complex64), tuple(places))


@dataclass(frozen=True)
class Expected:
    """A fix: degrees, and the covariance of its error, east and north, in square metres."""

    latitude: float
    longitude: float
    covariance: Array


@dataclass(frozen=True)
class Family:
    """A model and how its answers are computed by hand.

    Attributes:
        contract: without golden vectors.
        graph: the model.
        capacity: receivers that it takes; None where each has its slot.
        raw: outputs of the graph, of a scene with no more receivers than it takes.
        read: a fix from those outputs.
        tolerance: of the golden vectors, absolute.
        in_dbm: whether levels are those at the antenna.
    """

    name: str
    contract: dict[str, Any]
    graph: onnx.ModelProto
    capacity: int | None
    raw: Callable[[Scene], Raw]
    read: Callable[[Raw, Scene], Expected]
    tolerance: float
    in_dbm: bool = False

    def kept(self, heard: Scene) -> list[int]:
        """Rows of the receivers that take part: the strongest, in their order."""
        level = np.mean(np.abs(heard.iq.astype(np.complex128)) ** 2, axis=1)
        if self.in_dbm:
            level = level * [10 ** (place.full_scale_dbm / 10) for place in heard.places]
        return sorted(np.argsort(-level)[: self.capacity].tolist())

    def expected(self, heard: Scene) -> Expected:
        """The fix that the worker has to give."""
        taken = heard.of(self.kept(heard))
        return self.read(self.raw(taken), taken)

    def golden(self, heard: Scene) -> dict[str, Any]:
        """A golden vector at the level of IQ."""
        return {
            "sigmf": heard.sigmf(),
            "body": base64.b64encode(heard.body()).decode(),
            "expected": {name: row.tolist() for name, row in self.raw(heard).items()},
            "rtol": 0.0,
            "atol": self.tolerance,
        }

    def with_contract(self, **changes: Any) -> "Family":
        """The same model, described otherwise."""
        return replace(self, contract=self.contract | changes)

    def document(self) -> dict[str, Any]:
        """The contract with its golden vectors: two receivers, and as many as it takes."""
        many = self.capacity or len(NETWORK)
        scenes = [scene(101, NETWORK[1:3], 5000), scene(102, EVERYBODY[:many], 2100)]
        return self.contract | {"golden": [self.golden(heard) for heard in scenes]}

    def write(self, path: Path) -> Path:
        """Write the model with its contract inside."""
        model = onnx.ModelProto()
        model.CopyFrom(self.graph)
        helper.set_model_props(model, {METADATA_KEY: json.dumps(self.document())})
        onnx.checker.check_model(model)
        onnx.save(model, path)
        return path


# Arithmetic that several families share.


def metres_per_degree(latitude: float) -> tuple[float, float]:
    """Of latitude and of longitude on WGS84: π/180 times the radii of curvature M and N·cos φ."""
    semi_major, eccentricity_squared = 6_378_137.0, 0.00669437999014
    w = np.sqrt(1 - eccentricity_squared * np.sin(np.radians(latitude)) ** 2)
    meridian = semi_major * (1 - eccentricity_squared) / w**3
    prime_vertical = semi_major / w
    return float(np.radians(meridian)), float(np.radians(prime_vertical * np.cos(np.radians(latitude))))


def centroid(heard: Scene) -> tuple[float, float]:
    """Mean latitude and mean longitude."""
    return (
        float(np.mean([place.latitude for place in heard.places])),
        float(np.mean([place.longitude for place in heard.places])),
    )


def figures(iq: NDArray[np.complexfloating[Any, Any]], full_scale_dbm: float | None) -> tuple[float, float, float]:
    """SNR in dB, peak power density in dBm/Hz and frequency offset in Hz of one receiver.

    Full scale is 1 W where no level at the antenna is given.
    """
    wide = iq.astype(np.complex128)
    power = np.abs(np.fft.fft(wide)) ** 2 / len(wide)
    lowest = np.sort(power)[: int(0.3 * len(power))]
    snr = 10 * np.log10(np.mean(np.abs(wide) ** 2) / np.median(lowest))
    density = 10 * np.log10(power.max() / RATE) + (30.0 if full_scale_dbm is None else full_scale_dbm)
    return float(snr), float(density), float(np.fft.fftfreq(len(wide), 1 / RATE)[np.argmax(power)])


def mel_of_hertz(hertz: Array) -> Array:
    """HTK's scale."""
    return 2595 * np.log10(1 + hertz / 700)


def triangles(corners: Array, bins: Array) -> Array:
    """One filter per three neighbouring corners, its peak 1: (filters, bins)."""
    filters = np.zeros((len(corners) - 2, len(bins)))
    for k, (low, peak, high) in enumerate(zip(corners, corners[1:], corners[2:], strict=False)):
        rising, falling = (bins - low) / (peak - low), (high - bins) / (high - peak)
        filters[k] = np.clip(np.minimum(rising, falling), 0, None)
    return filters


def frames_of(signal: NDArray[Any], n_fft: int, hop: int) -> NDArray[Any]:
    """Frames without centring, under a periodic Hann window: (frames, n_fft)."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    starts = range(0, len(signal) - n_fft + 1, hop)
    return np.array([signal[start : start + n_fft] * window for start in starts])


def weights(seed: int, *shape: int, scale: float = 1.0) -> NDArray[np.float32]:
    """Known numbers, the same in graph and formula."""
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype(np.float32)


class _Net:
    """Nodes and constants of a graph; each operation returns the name of its result."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = attributes.pop("into", f"t{len(self._nodes)}")
        self._nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def total(self, tensor: str, axis: int) -> str:
        return self.op("ReduceSum", tensor, self.constant([axis], np.int64), keepdims=0)

    def part(self, tensor: str, axis: int, first: int, last: int) -> str:
        return self.op("Slice", tensor, *(self.constant([n], np.int64) for n in (first, last, axis)))

    def column(self, tensor: str) -> str:
        return self.op("Unsqueeze", tensor, self.constant([-1], np.int64))

    def linear(self, tensor: str, matrix: Any, bias: Any, **into: str) -> str:
        return self.op("Add", self.op("MatMul", tensor, self.constant(matrix)), self.constant(bias), **into)

    def model(self, name: str, inputs: dict[str, tuple[int, list[Any]]], outputs: dict[str, int]) -> onnx.ModelProto:
        graph = helper.make_graph(
            self._nodes,
            name,
            [helper.make_tensor_value_info(tensor, *kind) for tensor, kind in inputs.items()],
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", size]) for n, size in outputs.items()],
            self._constants,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


# LocalizationNet: mel spectrograms of the envelopes of three receivers; degrees.

_MELS, _FRAMES, _CHANNELS = 128, 32, 3
_NOMINAL_RATE = 48_000.0
_LOCATION = weights(1, _CHANNELS * _MELS * _FRAMES, 4, scale=1e-3)
_LOCATION_BIAS = np.array([45.0, 7.9, -4.4, -4.0], np.float32)


def localization_net() -> Family:
    """Three channels of which one may be repeated; latitude, longitude and their sigmas in degrees."""
    inputs: dict[str, Any] = {
        "mel_spectrogram": {
            "feature": "log_mel",
            "dtype": "float32",
            "axes": ["batch", "receiver", "mel", "frame"],
            "signal": "envelope",
            "sides": "one",
            "n_fft": 2048,
            "hop": 512,
            "boundary": "zeros",
            "n_mels": _MELS,
            "fmin": 0,
            "fmax": _NOMINAL_RATE / 2,
            "sample_rate": _NOMINAL_RATE,
            "mel_scale": "htk",
            "filter_norm": "none",
            "power_scale": "1/sum(w)²",
            "floor": {"kind": "add", "value": 1e-9},
            "log": "db",
            "normalise": {"kind": "per_receiver"},
            "frames": {"count": _FRAMES, "place": "centre", "pad": "reflect"},
            "receiver_padding": "repeat",
        }
    }
    contract = _document(
        receivers={"set": {"max": _CHANNELS, "keep": "strongest"}, "min_present": 1},
        inputs=inputs,
        position={"output": "positions", "frame": "wgs84_deg", "axes": ["latitude", "longitude"]},
        uncertainty={"output": "uncertainties", "kind": "sigma"},
    )
    return Family("localization_net", contract, _localization_graph(), _CHANNELS, _localization, _absolute, 1e-5)


def _localization_graph() -> onnx.ModelProto:
    net = _Net()
    hidden = net.op("MatMul", net.op("Flatten", "mel_spectrogram", axis=1), net.constant(_LOCATION))
    # A layer of its own, as in the real one: a bias of 45 under a sum of 12,288 terms would cost a metre.
    net.linear(hidden, np.eye(4)[:, :2], _LOCATION_BIAS[:2], into="positions")
    net.op("Softplus", net.linear(hidden, np.eye(4)[:, 2:], _LOCATION_BIAS[2:]), into="uncertainties")
    shape = ["batch", _CHANNELS, _MELS, _FRAMES]
    return net.model(
        "LocalizationNet",
        {"mel_spectrogram": (TensorProto.FLOAT, shape)},
        {"positions": 2, "uncertainties": 2},
    )


def _localization(heard: Scene) -> Raw:
    spectrograms = [envelope_mel(iq) for iq in heard.iq]
    channels = np.array([spectrograms[channel % len(spectrograms)] for channel in range(_CHANNELS)])
    answer = channels.reshape(-1) @ _LOCATION.astype(float) + _LOCATION_BIAS
    return {"positions": answer[:2], "uncertainties": np.log1p(np.exp(answer[2:]))}


def envelope_mel(iq: NDArray[np.complex64]) -> Array:
    """Decibels over |x|, z-scored over all frames, then brought to 32 frames about the centre.

    Frames are centred on every 512th sample, with zeros beyond the ends.
    """
    envelope = np.abs(iq.astype(np.complex128))
    hops = int(np.ceil(len(envelope) / 512))
    frames = frames_of(
        np.concatenate([np.zeros(1024), envelope, np.zeros(1024 + hops * 512 - len(envelope))]), 2048, 512
    )
    power = np.abs(np.fft.rfft(frames)) ** 2 / 1024**2
    corners = 700 * (10 ** (np.linspace(0, mel_of_hertz(np.array(24_000.0)), _MELS + 2) / 2595) - 1)
    mel = triangles(corners, np.arange(1025) * _NOMINAL_RATE / 2048) @ power.T
    decibel = 10 * np.log10(mel + 1e-9)
    scored = (decibel - decibel.mean()) / decibel.std()
    return scored[:, _centred(scored.shape[1], _FRAMES)]


def _centred(available: int, wanted: int) -> list[int]:
    """Which frames fill the wanted ones: the middle, or all of them between their mirror images."""
    first = (available - wanted) // 2 if available >= wanted else -((wanted - available) // 2)
    period = 2 * (available - 1) or 1
    mirrored = [(first + k) % period for k in range(wanted)]
    return [k if k < available else period - k for k in mirrored]


def _absolute(raw: Raw, heard: Scene) -> Expected:
    latitude, longitude = raw["positions"]
    north, east = raw["uncertainties"] * metres_per_degree(latitude)
    return Expected(latitude, longitude, np.diag([east**2, north**2]))


# TriangulationModel: figures of any receivers, padding masked; standardised metres about their centroid.

_TARGET_MEAN, _TARGET_STD = (1500.0, -2500.0), (21_000.0, 19_000.0)
_MOST = 10
_TRIANGLE = weights(2, 6, 3, scale=0.2)
_TRIANGLE_BIAS = np.array([0.05, -0.1, -3.5], np.float32)


def triangulation_model() -> Family:
    """Six columns per receiver, True = masked out; one logarithm of the total variance."""
    columns: list[dict[str, Any]] = [
        {"name": "snr_db", "offset": -20, "scale": 80, "clip": [0, 1]},
        {"name": "psd_dbm_hz", "offset": -100, "scale": 30, "clip": [0, 1]},
        {"name": "freq_offset_hz", "offset": -50, "scale": 100, "clip": [0, 1]},
        {"name": "north_m", "offset": _TARGET_MEAN[0], "scale": _TARGET_STD[0]},
        {"name": "east_m", "offset": _TARGET_MEAN[1], "scale": _TARGET_STD[1]},
        {"name": "signal_present", "threshold_db": PRESENT_FROM_DB},
    ]
    contract = _document(
        level="dbm",
        receivers={"set": {"max": _MOST, "keep": "strongest"}, "min_present": 1},
        inputs={
            "receiver_features": {"feature": "receiver_features", "axes": COLUMN_AXES, "columns": columns},
            "signal_mask": _mask("absent"),
        },
        position={
            "output": "position",
            "frame": "enu_m",
            "origin": "centroid",
            "axes": ["north", "east"],
            "scale": list(_TARGET_STD),
            "offset": list(_TARGET_MEAN),
            "metres_per_degree": list(PLANE),
        },
        uncertainty={"output": "log_variance", "kind": "log_variance", "of": "total"},
    )
    graph = _triangulation_graph()
    return Family("triangulation_model", contract, graph, _MOST, _triangulation, _planar, 1e-5, in_dbm=True)


def _triangulation_graph() -> onnx.ModelProto:
    net = _Net()
    present = net.column(net.op("Cast", net.op("Not", "signal_mask"), to=TensorProto.FLOAT))
    mean = _masked_mean(net, "receiver_features", present)
    quality = net.op("Mul", present, net.part("receiver_features", 2, 0, 1))
    pull = _masked_mean(net, net.part("receiver_features", 2, 3, 5), quality)
    net.op("Add", pull, net.linear(mean, _TRIANGLE[:, :2], _TRIANGLE_BIAS[:2]), into="position")
    net.linear(mean, _TRIANGLE[:, 2:], _TRIANGLE_BIAS[2:], into="log_variance")
    return net.model(
        "TriangulationModel",
        {
            "receiver_features": (TensorProto.FLOAT, ["batch", "receivers", 6]),
            "signal_mask": (TensorProto.BOOL, ["batch", "receivers"]),
        },
        {"position": 2, "log_variance": 1},
    )


def _triangulation(heard: Scene) -> Raw:
    rows = triangulation_columns(heard)
    answer = rows.mean(axis=0) @ _TRIANGLE.astype(float) + _TRIANGLE_BIAS
    pull = rows[:, 0] @ rows[:, 3:5] / rows[:, 0].sum()
    return {"position": pull + answer[:2], "log_variance": answer[2:]}


def triangulation_columns(heard: Scene) -> Array:
    """What the triangulation model sees of each receiver: (receivers, 6)."""
    origin = centroid(heard)
    rows = []
    for iq, place in zip(heard.iq, heard.places, strict=True):
        snr, density, offset = figures(iq, place.full_scale_dbm)
        scaled = np.clip([(snr + 20) / 80, (density + 100) / 30, (offset + 50) / 100], 0, 1)
        north = (place.latitude - origin[0]) * PLANE[0]
        east = (place.longitude - origin[1]) * PLANE[1]
        standard = ((north - _TARGET_MEAN[0]) / _TARGET_STD[0], (east - _TARGET_MEAN[1]) / _TARGET_STD[1])
        rows.append([*scaled, *standard, float(snr > PRESENT_FROM_DB)])
    return np.array(rows)


def _planar(raw: Raw, heard: Scene) -> Expected:
    north, east = raw["position"] * _TARGET_STD + _TARGET_MEAN
    latitude, longitude = centroid(heard)
    per_axis = np.exp(raw["log_variance"][0]) / 2
    covariance = np.diag([per_axis * _TARGET_STD[1] ** 2, per_axis * _TARGET_STD[0] ** 2])
    return Expected(latitude + north / PLANE[0], longitude + east / PLANE[1], covariance)


# HeimdallNet: samples, figures, places and identities of any receivers; degrees about their centroid.

_LENGTH = 4096
_IDENTITIES = weights(3, _MOST, 2, scale=0.1)
_SEEN = 2 + 6 + 3 + 2
_HEIMDALL_SCALE = [10.0, 10.0, 2e-3, 1e-3, 5e-6, 0.3, 0.3, 1.0, 0.3, 0.3, 1.0, 1.0, 1.0]
_HEIMDALL = weights(4, _SEEN, 4) * np.array(_HEIMDALL_SCALE, np.float32)[:, np.newaxis]
_HEIMDALL_BIAS = np.array([0.02, -0.03, -9.0, -8.5], np.float32)
HEIMDALL_TABLE = {place.name: 6 - i for i, place in enumerate(NETWORK)}
_STRANGER = 9


def heimdall_net(table: dict[str, int] | None = None) -> Family:
    """Five inputs, True = active; one logarithm of the total squared error in degrees² for each axis.

    Args:
        table: number of each receiver, by its name; None = they are numbered as they come, as the real one was trained.
    """
    place_columns = [{"name": "delta_lat"}, {"name": "delta_lon"}, {"name": "alt", "clip": [0, 0]}]
    columns = [{"name": "snr_db"}, {"name": "psd_dbm_hz"}, {"name": "freq_offset_hz"}, *place_columns]
    inputs = {
        "iq_data": {
            "feature": "iq",
            "axes": ["batch", "receiver", "iq", "sample"],
            "length": _LENGTH,
            "place": "start",
            "pad": "zeros",
        },
        "features": {"feature": "receiver_features", "axes": COLUMN_AXES, "columns": columns},
        "positions": {"feature": "receiver_positions", "axes": COLUMN_AXES, "columns": place_columns},
        "receiver_ids": {
            "feature": "receiver_ids",
            "dtype": "int64",
            "axes": RECEIVER_AXES,
        }
        | ({"table": "row"} if table is None else {"table": table, "unknown": _STRANGER}),
        "mask": _mask("present"),
    }
    contract = _document(
        receivers={"set": {"max": _MOST, "keep": "strongest"}, "min_present": 1},
        inputs=inputs,
        position={
            "output": "position",
            "frame": "delta_deg",
            "origin": "centroid",
            "axes": ["latitude", "longitude"],
        },
        uncertainty={"output": "uncertainty", "kind": "log_variance", "of": "total"},
    )

    def raw(heard: Scene) -> Raw:
        if table is None:
            return _heimdall(heard, range(len(heard.places)))
        return _heimdall(heard, [table.get(place.name, _STRANGER) for place in heard.places])

    return Family("heimdall_net", contract, _heimdall_graph(), _MOST, raw, _relative, 1e-5)


def _heimdall_graph() -> onnx.ModelProto:
    net = _Net()
    present = net.column(net.op("Cast", "mask", to=TensorProto.FLOAT))
    power, turning = _heard(net)
    named = net.op("Gather", net.constant(_IDENTITIES), "receiver_ids")
    seen = net.op("Concat", power, turning, "features", "positions", named, axis=2)
    answer = net.linear(_masked_mean(net, seen, present), _HEIMDALL, _HEIMDALL_BIAS)
    pull = _masked_mean(net, net.part("positions", 2, 0, 2), net.op("Mul", present, power))
    net.op("Add", pull, net.part(answer, 1, 0, 2), into="position")
    net.op("Identity", net.part(answer, 1, 2, 4), into="uncertainty")
    return net.model(
        "HeimdallNet",
        {
            "iq_data": (TensorProto.FLOAT, ["batch", "receivers", 2, "samples"]),
            "features": (TensorProto.FLOAT, ["batch", "receivers", 6]),
            "positions": (TensorProto.FLOAT, ["batch", "receivers", 3]),
            "receiver_ids": (TensorProto.INT64, ["batch", "receivers"]),
            "mask": (TensorProto.BOOL, ["batch", "receivers"]),
        },
        {"position": 2, "uncertainty": 2},
    )


def _heard(net: _Net) -> tuple[str, str]:
    """Mean power, and how fast the phase turns, of each receiver: two columns (batch, receivers, 1)."""
    i, q = net.part("iq_data", 2, 0, 1), net.part("iq_data", 2, 1, 2)
    last = np.iinfo(np.int64).max
    power = net.op("Add", net.op("Mul", i, i), net.op("Mul", q, q))
    crossed = net.op("Mul", net.part(q, 3, 1, last), net.part(i, 3, 0, -1))
    back = net.op("Mul", net.part(i, 3, 1, last), net.part(q, 3, 0, -1))
    turned = net.op("Sub", crossed, back)
    return tuple(net.op("ReduceMean", tensor, axes=[3], keepdims=0) for tensor in (power, turned))


def _heimdall(heard: Scene, numbers: Sequence[int]) -> Raw:
    cut = np.zeros((len(heard.iq), _LENGTH), np.complex128)
    available = min(_LENGTH, heard.iq.shape[1])
    cut[:, :available] = heard.iq[:, :available]
    power = np.mean(np.abs(cut) ** 2, axis=1)
    turning = np.mean((cut[:, 1:] * cut[:, :-1].conj()).imag, axis=1)
    origin = centroid(heard)
    delta = np.array([[p.latitude - origin[0], p.longitude - origin[1], 0.0] for p in heard.places])
    measured = np.array([figures(iq, None) for iq in heard.iq])
    seen = np.column_stack([power, turning, measured, delta, delta, _IDENTITIES[list(numbers)]])
    answer = seen.mean(axis=0) @ _HEIMDALL.astype(float) + _HEIMDALL_BIAS
    return {"position": power @ delta[:, :2] / power.sum() + answer[:2], "uncertainty": answer[2:]}


def _relative(raw: Raw, heard: Scene) -> Expected:
    latitude, longitude = np.array(centroid(heard)) + raw["position"]
    north, east = np.exp(raw["uncertainty"]) / 2 * np.square(metres_per_degree(latitude))
    return Expected(latitude, longitude, np.diag([east, north]))


# A network of fixed receivers, each with its slot; kilometres about a fixed place.

_BANDS, _STEPS = 32, 24
_SLOTTED = weights(5, _BANDS, 5, scale=0.02)
_SLOT_PULL = weights(6, len(NETWORK), 5, scale=0.5)
_SLOT_BIAS = np.array([3.0, -2.0, 0.5, 0.4, 0.2], np.float32)
_SLOT_ORIGIN = (45.0, 8.0)
_LEVEL_MEAN, _LEVEL_STD = -60.0, 20.0


def slot_net() -> Family:
    """Seven receivers, those missing masked; a Cholesky factor in kilometres, recalibrated, and a confidence."""
    inputs = {
        "spectrogram": {
            "feature": "log_mel",
            "axes": ["batch", "mel", "frame", "receiver"],
            "fill": 5.0,
            "n_fft": 256,
            "hop": 128,
            "n_mels": _BANDS,
            "fmin": -RATE / 2,
            "fmax": RATE / 2,
            "sample_rate": RATE,
            "mel_scale": "linear",
            "power_scale": "1/n_fft",
            "floor": {"kind": "clamp", "value": 1e-10},
            "normalise": {"kind": "fixed", "mean": _LEVEL_MEAN, "std": _LEVEL_STD},
            "frames": {"count": _STEPS, "place": "start", "pad": "edge"},
        },
        "heard": _mask("present") | {"dtype": "float32"},
    }
    slots = [
        {"id": p.name, "geolocation": {"type": "Point", "coordinates": [p.longitude, p.latitude]}} for p in NETWORK
    ]
    contract = _document(
        receivers={"slots": slots, "min_present": 1},
        inputs=inputs,
        position={
            "output": "offset",
            "frame": "enu_m",
            "origin": {"latitude": _SLOT_ORIGIN[0], "longitude": _SLOT_ORIGIN[1]},
            "axes": ["east", "north"],
            "scale": [1000, 1000],
        },
        uncertainty={"output": "factor", "kind": "cholesky", "scale": 1.25},
        confidence={"output": "confidence"},
    )
    return Family("slot_net", contract, _slot_graph(), None, _slotted, _geodesic, 1e-4)


def _slot_graph() -> onnx.ModelProto:
    net = _Net()
    level = net.op("ReduceMean", "spectrogram", axes=[2], keepdims=0)
    by_slot = net.op("Transpose", level, perm=[0, 2, 1])
    seen = net.op("Mul", net.column("heard"), net.linear(by_slot, _SLOTTED, _SLOT_PULL))
    answer = net.op("Add", net.total(seen, 1), net.constant(_SLOT_BIAS))
    net.op("Identity", net.part(answer, 1, 0, 2), into="offset")
    diagonal = net.op("Exp", net.part(answer, 1, 2, 4))
    below = net.part(answer, 1, 4, 5)
    net.op("Concat", net.part(diagonal, 1, 0, 1), below, net.part(diagonal, 1, 1, 2), axis=1, into="factor")
    net.op("Sigmoid", below, into="confidence")
    return net.model(
        "SlotNet",
        {
            "spectrogram": (TensorProto.FLOAT, ["batch", _BANDS, _STEPS, len(NETWORK)]),
            "heard": (TensorProto.FLOAT, ["batch", len(NETWORK)]),
        },
        {"offset": 2, "factor": 3, "confidence": 1},
    )


def _slotted(heard: Scene) -> Raw:
    answer = _SLOT_BIAS.astype(float)
    for iq, place in zip(heard.iq, heard.places, strict=True):
        level = band_levels(iq).mean(axis=1)
        answer = answer + level @ _SLOTTED.astype(float) + _SLOT_PULL[NETWORK.index(place)]
    factor = np.array([np.exp(answer[2]), answer[4], np.exp(answer[3])])
    return {"offset": answer[:2], "factor": factor, "confidence": 1 / (1 + np.exp(-answer[4:]))}


def band_levels(iq: NDArray[np.complex64]) -> Array:
    """Decibels in 32 equal bands from -fs/2 to +fs/2, standardised, the last frame repeated up to the count."""
    frames = frames_of(iq.astype(np.complex128), 256, 128)
    power = np.fft.fftshift(np.abs(np.fft.fft(frames)) ** 2, axes=1) / 256
    corners = np.linspace(-RATE / 2, RATE / 2, _BANDS + 2)
    bands = triangles(corners, (np.arange(256) - 128) * RATE / 256) @ power.T
    decibel = 10 * np.log10(np.maximum(bands, 1e-10))
    standard = (decibel - _LEVEL_MEAN) / _LEVEL_STD
    return standard[:, np.minimum(np.arange(_STEPS), standard.shape[1] - 1)]


def _geodesic(raw: Raw, heard: Scene) -> Expected:
    east, north = raw["offset"] * 1000
    azimuth, distance = np.degrees(np.arctan2(east, north)), np.hypot(east, north)
    longitude, latitude, _ = Geod(ellps="WGS84").fwd(_SLOT_ORIGIN[1], _SLOT_ORIGIN[0], azimuth, distance)
    l11, l21, l22 = raw["factor"] * 1000 * 1.25
    return Expected(latitude, longitude, np.array([[l11**2, l11 * l21], [l11 * l21, l21**2 + l22**2]]))


def _masked_mean(net: _Net, rows: str, weight: str) -> str:
    """Σ weight·row / Σ weight over the receivers: (batch, columns)."""
    return net.op("Div", net.total(net.op("Mul", rows, weight), 1), net.total(weight, 1))


def _mask(true_means: str) -> dict[str, Any]:
    return {"feature": "receiver_mask", "dtype": "bool", "axes": RECEIVER_AXES, "true_means": true_means}


def _document(**parts: Any) -> dict[str, Any]:
    return {"version": "1", "sample_rate": RATE, "min_samples": 512, "area": AREA, "level": "dbfs", **parts}


@cache
def family(name: str) -> Family:
    """A family by its name."""
    return {
        "localization_net": localization_net,
        "triangulation_model": triangulation_model,
        "heimdall_net": heimdall_net,
        "slot_net": slot_net,
    }[name]()


SET_FAMILIES = ("localization_net", "triangulation_model", "heimdall_net")
FAMILIES = (*SET_FAMILIES, "slot_net")
