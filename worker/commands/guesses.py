"""What the graph alone tells of a contract: a feature for each input.

A value that nobody can read off a graph is null, and a question names what is asked for. A value that is only likely
stands there, and a question asks whether it is right.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from worker.commands.onnx_file import Size, Tensor

Document = dict[str, Any]
Questions = dict[str, str]

_INTEGERS: Final = ("int32", "int64")
_PAIR: Final = 2
_TRIPLE: Final = 3
_WITHOUT_RECEIVER: Final = 3
_WITH_RECEIVER: Final = 4
_PER_RECEIVER: Final = 2

# What names of inputs and outputs have in common, the more telling first.
_FEATURES: Final = (
    ("receiver_mask", ("mask", "present", "active", "valid", "heard")),
    ("log_mel", ("mel", "spec")),
    ("iq", ("iq", "wave", "samples")),
    ("receiver_ids", ("id",)),
    ("receiver_positions", ("position", "location", "coord", "geo")),
)


@dataclass(slots=True)
class Guess:
    """A part of a contract, and what is open about it: place within the part → question."""

    document: Document
    questions: Questions = field(default_factory=dict)


def guess_input(tensor: Tensor, rows: int | None = None) -> Guess:
    """How an input may be fed.

    Args:
        tensor: the input.
        rows: of the receiver axis, as the graph's other inputs have it; None where they do not say.
    """
    feature = _feature(tensor)
    common: Document = {"feature": feature, "dtype": tensor.dtype}
    match feature:
        case "log_mel":
            return _log_mel(tensor, common, rows)
        case "iq":
            return _iq(tensor, common)
        case "receiver_mask":
            question = "does true (or 1) mark a receiver that is `present`, or one that is `absent`?"
            document = common | {"axes": ["batch", "receiver"], "true_means": None}
            return Guess(document, {"true_means": question})
        case "receiver_ids":
            question = (
                "{id: integer} as in training, `unknown` that of any other; or `row`: the number of the receiver's row"
            )
            return Guess(common | {"axes": ["batch", "receiver"], "table": None}, {"table": question})
        case "receiver_features" | "receiver_positions":
            return _columns(tensor, common)
        case _:
            question = "which feature is it? log_mel, iq, receiver_features, receiver_positions, _ids or _mask"
            return Guess(common | {"axes": None}, {"feature": question})


def rows_elsewhere(inputs: list[Tensor]) -> int | None:
    """Size of the receiver axis, from inputs that can have no other beside the batch."""
    sizes = {tensor.shape[1] for tensor in inputs if tensor.shape is not None and len(tensor.shape) == _PER_RECEIVER}
    return next((size for size in sizes if isinstance(size, int)), None)


def receiver_rows(tensor: Tensor, guess: Guess) -> Size:
    """Size of the receiver axis of an input; 1 where it has none, None where the file does not say."""
    axes = guess.document.get("axes") or []
    if "receiver" not in axes:
        return 1 if axes else None
    return None if tensor.shape is None else tensor.shape[axes.index("receiver")]


def _feature(tensor: Tensor) -> str | None:
    rank = len(tensor.shape) if tensor.shape is not None else 0
    named = next((feature for feature, words in _FEATURES if has_any(tensor.name, words)), None)
    if tensor.dtype == "bool":
        return "receiver_mask"
    if tensor.dtype in _INTEGERS:
        return named if named == "receiver_mask" else "receiver_ids"
    if rank == _PER_RECEIVER:
        return "receiver_mask" if named == "receiver_mask" else None
    if rank == _WITH_RECEIVER:
        likely = "iq" if _PAIR in (tensor.shape or ())[1:] else "log_mel"
        return named if named in {"iq", "log_mel"} else likely
    if rank == _WITHOUT_RECEIVER:
        return named if named in {"iq", "log_mel", "receiver_positions"} else "receiver_features"
    return None


def _log_mel(tensor: Tensor, common: Document, rows: int | None) -> Guess:
    axes = _with_receiver(tensor, ["mel", "frame"], rows)
    count, n_mels = _fixed(tensor, axes, "frame"), _fixed(tensor, axes, "mel")
    document = common | {
        "axes": axes,
        "signal": "iq",
        "n_fft": None,
        "hop": None,
        "window": "hann",
        "boundary": "none",
        "sides": "two",
        "n_mels": n_mels,
        "fmin": None,
        "fmax": None,
        "sample_rate": None,
        "mel_scale": "htk",
        "filter_norm": "none",
        "power_scale": "none",
        "floor": {"kind": "add", "value": None},
        "log": "db",
        "normalise": {"kind": "none"},
        "frames": {"count": count, "place": "start", "pad": "zeros"} if count else None,
        "receiver_padding": "fill",
    }
    return Guess(document, dict(_LOG_MEL_QUESTIONS))


_LOG_MEL_QUESTIONS: Final = {
    "axes": "is this the order of the graph's axes?",
    "n_fft": "samples of one FFT",
    "hop": "samples between frames",
    "fmin": "lowest frequency in hertz: minus half the sample rate for complex IQ, 0 for the envelope",
    "fmax": "highest frequency in hertz, such as half the sample rate",
    "sample_rate": "the rate that the filters were built for in training, hertz",
    "floor/value": "what was added (`add`) before the logarithm, or the least power (`clamp`), such as 1e-9",
    "boundary": "`none`, or `zeros` if frames are centred on k·hop, as scipy.signal.stft has it",
    "signal": "`iq` (then sides is two), or `envelope`: the magnitude of the samples (then sides is one or two)",
    "mel_scale": "htk, slaney or linear; filter_norm is slaney or none: librosa's defaults are slaney and slaney",
    "power_scale": "none, 1/n_fft or 1/sum(w)²: what the library of training multiplied powers with",
    "log": "`db` (10·lg) or `ln`",
    "normalise": "none, fixed (mean, std), per_sample or per_receiver",
}


def _iq(tensor: Tensor, common: Document) -> Guess:
    last = (tensor.shape or (None,))[-1] == _PAIR
    axes = _with_receiver(tensor, ["sample", "iq"] if last else ["iq", "sample"])
    document = common | {
        "axes": axes,
        "length": _fixed(tensor, axes, "sample"),
        "place": "start",
        "pad": "zeros",
        "scale": 1,
    }
    return Guess(
        document,
        {
            "length": "samples per receiver that the model was trained with",
            "scale": "factor on samples whose full scale is 1; was there another normalisation in training?",
        },
    )


def _columns(tensor: Tensor, common: Document) -> Guess:
    axes = ["batch", "receiver", "column"]
    count = _fixed(tensor, axes, "column")
    places = common["feature"] == "receiver_positions" and count in {_PAIR, _TRIPLE}
    names = ["lat", "lon", "alt"][:count] if places else [None] * (count or 1)
    question = (
        "absolute degrees? else delta_lat, delta_lon (from the origin) or north_m, east_m"
        if places
        else "the columns in their order: snr_db, psd_dbm_hz, freq_offset_hz, signal_present, lat, lon, alt, north_m, "
        "east_m, delta_lat, delta_lon, center_frequency; offset and scale as in training, (value - offset)/scale"
    )
    return Guess(common | {"axes": axes, "columns": [{"name": name} for name in names]}, {"columns": question})


def _with_receiver(tensor: Tensor, own: list[str], rows: int | None = None) -> list[str]:
    sizes = list((tensor.shape or ())[1:])
    if tensor.shape is not None and len(tensor.shape) == _WITHOUT_RECEIVER:
        return ["batch", *own]
    place = sizes.index(rows) if rows is not None and sizes.count(rows) == 1 else 0
    return ["batch", *own[:place], "receiver", *own[place:]]


def _fixed(tensor: Tensor, axes: list[str], axis: str) -> int | None:
    if tensor.shape is None or len(tensor.shape) != len(axes):
        return None
    size = tensor.shape[axes.index(axis)]
    return size if isinstance(size, int) else None


def has_any(name: str, words: tuple[str, ...]) -> bool:
    """Whether a name contains one of the words."""
    return any(word in name.lower() for word in words)
