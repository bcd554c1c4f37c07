"""What is known of published models beyond their graphs, from the code that trained them; only for drafts.

A family is recognised by the names of its inputs and outputs. Null marks what differs from training to training.
"""

from dataclasses import dataclass
from typing import Any, Final

from worker.commands.onnx_file import OnnxFile


@dataclass(frozen=True, slots=True)
class Family:
    """A published model.

    Attributes:
        inputs, outputs: names in its graph.
        values: place → value in the contract.
        questions: place → what to ask.
    """

    name: str
    inputs: frozenset[str]
    outputs: frozenset[str]
    values: dict[str, Any]
    questions: dict[str, str]


_MEL: Final = "inputs/mel_spectrogram"
_PLANE: Final = [111_000, 78_000]
_STANDARD_DEVIATION: Final = "standard deviation of the target in training, metres"
_DELTA: Final = [{"name": "delta_lat"}, {"name": "delta_lon"}, {"name": "alt", "clip": [0, 0]}]

_LOCALIZATION_NET: Final = Family(
    "LocalizationNet",
    frozenset({"mel_spectrogram"}),
    frozenset({"positions", "uncertainties"}),
    {
        f"{_MEL}/signal": "envelope",
        f"{_MEL}/sides": "one",
        f"{_MEL}/n_fft": 2048,
        f"{_MEL}/hop": 512,
        f"{_MEL}/boundary": "zeros",
        f"{_MEL}/fmin": 0,
        f"{_MEL}/fmax": 24_000,
        f"{_MEL}/sample_rate": 48_000,
        f"{_MEL}/mel_scale": "htk",
        f"{_MEL}/power_scale": "1/sum(w)²",
        f"{_MEL}/floor": {"kind": "add", "value": 1e-9},
        f"{_MEL}/log": "db",
        f"{_MEL}/normalise": {"kind": "per_receiver"},
        f"{_MEL}/frames": {"count": 32, "place": "centre", "pad": "reflect"},
        f"{_MEL}/receiver_padding": "repeat",
        f"{_MEL}/axes": ["batch", "receiver", "mel", "frame"],
        "receivers/min_present": 1,
        "position/frame": "wgs84_deg",
        "position/axes": ["latitude", "longitude"],
        "position/scale": [1, 1],
        "uncertainty/kind": "sigma",
        "uncertainty/of": "axis",
    },
    {f"{_MEL}/power_scale": "this and boundary are those of scipy.signal.stft; was it used?"},
)

_TRIANGULATION_MODEL: Final = Family(
    "TriangulationModel",
    frozenset({"receiver_features", "signal_mask"}),
    frozenset({"position", "log_variance"}),
    {
        "inputs/receiver_features/columns": [
            {"name": "snr_db", "offset": -20, "scale": 80, "clip": [0, 1]},
            {"name": "psd_dbm_hz", "offset": -100, "scale": 30, "clip": [0, 1]},
            {"name": "freq_offset_hz", "offset": -50, "scale": 100, "clip": [0, 1]},
            {"name": "north_m", "offset": None, "scale": None},
            {"name": "east_m", "offset": None, "scale": None},
            {"name": "signal_present", "threshold_db": 10},
        ],
        "inputs/signal_mask/true_means": "absent",
        "receivers/min_present": 1,
        "position/frame": "enu_m",
        "position/origin": "centroid",
        "position/axes": ["north", "east"],
        "position/scale": [None, None],
        "position/offset": [None, None],
        "position/metres_per_degree": _PLANE,
        "uncertainty/kind": "log_variance",
        "uncertainty/of": "total",
    },
    {
        "inputs/receiver_features/columns/3/offset": "mean of the target (north) in training, metres",
        "inputs/receiver_features/columns/3/scale": f"{_STANDARD_DEVIATION} (north)",
        "inputs/receiver_features/columns/4/offset": "mean of the target (east) in training, metres",
        "inputs/receiver_features/columns/4/scale": f"{_STANDARD_DEVIATION} (east)",
        "inputs/receiver_features/columns/5/threshold_db": "SNR above which a signal counts as present: noise alone "
        "reads 7.9 dB, so that training with 0 has seen it always present",
        "position/scale": f"{_STANDARD_DEVIATION}: north, east",
        "position/offset": "mean of the target in training, metres: north, east",
    },
)

_HEIMDALL_NET: Final = Family(
    "HeimdallNet",
    frozenset({"iq_data", "features", "positions", "receiver_ids", "mask"}),
    frozenset({"position", "uncertainty"}),
    {
        "inputs/features/columns": [{"name": "snr_db"}, {"name": "psd_dbm_hz"}, {"name": "freq_offset_hz"}, *_DELTA],
        "inputs/positions/columns": _DELTA,
        "inputs/mask/true_means": "present",
        "inputs/receiver_ids/table": "row",
        "receivers/min_present": 1,
        "position/frame": "delta_deg",
        "position/origin": "centroid",
        "position/axes": ["latitude", "longitude"],
        "position/scale": [1, 1],
        "uncertainty/kind": "log_variance",
        "uncertainty/of": "total",
    },
    {
        "inputs/features/columns": "positions are degrees from the centroid, altitude 0: was it so in this training?",
        "inputs/receiver_ids/table": "numbered as they come; if training gave each id its number: {id: integer}",
    },
)

FAMILIES: Final = (_LOCALIZATION_NET, _TRIANGULATION_MODEL, _HEIMDALL_NET)


def recognise(file: OnnxFile) -> Family | None:
    """The family of a graph, or None."""
    inputs, outputs = {tensor.name for tensor in file.inputs}, {tensor.name for tensor in file.outputs}
    return next((f for f in FAMILIES if f.inputs == inputs and f.outputs <= outputs), None)
