"""What the graph alone tells of the outputs: which may be the position, the uncertainty, the confidence."""

from typing import Final

from worker.commands.guesses import Document, Guess, has_any
from worker.commands.onnx_file import Tensor

_PAIR: Final = 2
_TRIPLE: Final = 3

# What names of outputs have in common, the more telling first.
_KINDS: Final = (
    ("cholesky", ("chol", "tril", "factor")),
    ("sigma_rho", ("rho", "corr")),
    ("log_variance", ("log_var", "logvar")),
    ("variance", ("var",)),
    ("sigma", ("sigma", "std")),
)
_POSITION: Final = ("position", "location", "coord", "latlon", "xy", "offset")
_UNCERTAINTY: Final = ("uncert", "cov", *(word for _, words in _KINDS for word in words))
_CONFIDENCE: Final = ("conf", "prob", "score")


def guess_position(outputs: list[Tensor]) -> Guess:
    """How the position may be read."""
    pairs = [tensor for tensor in outputs if _components(tensor) in {None, _PAIR}]
    named = [tensor for tensor in pairs if has_any(tensor.name, _POSITION)]
    rest = [tensor for tensor in pairs if not has_any(tensor.name, _UNCERTAINTY)]
    chosen = next(iter([*named, *rest]), None)
    document: Document = {
        "output": chosen.name if chosen else None,
        "frame": None,
        "origin": None,
        "axes": None,
        "scale": [1, 1],
        "offset": [0, 0],
        "metres_per_degree": None,
    }
    questions = {
        "frame": "wgs84_deg (absolute degrees), delta_deg or enu_m (from an origin: then fill in position/origin, too)",
        "axes": "order of the two numbers: [latitude, longitude], or [north, east] for enu_m, or the other way round",
        "scale": "was the target standardised? then scale is its standard deviation and offset its mean, per axis",
    }
    return Guess(document, questions if chosen else questions | {"output": "which output is the position?"})


def guess_uncertainty(outputs: list[Tensor]) -> Guess:
    """How the uncertainty may be read."""
    chosen = next((tensor for tensor in outputs if has_any(tensor.name, _UNCERTAINTY)), None)
    if chosen is None:
        document = {"output": None, "kind": None}
        return Guess(document, {"output": "which output is the uncertainty? a model without one cannot serve"})
    kind = next((kind for kind, words in _KINDS if has_any(chosen.name, words)), None)
    questions = {"of": "`axis`, or `total` if it is about both axes' errors together: each then gets half the variance"}
    if kind is None:
        questions["kind"] = "sigma, variance, log_variance, cholesky [l11, l21, l22] or sigma_rho [s1, s2, rho]"
    if _components(chosen) == _TRIPLE:
        questions.pop("of")
    return Guess({"output": chosen.name, "kind": kind, "of": "axis"}, questions)


def guess_confidence(outputs: list[Tensor]) -> Document | None:
    """Which output may be a confidence."""
    chosen = next((tensor for tensor in outputs if has_any(tensor.name, _CONFIDENCE)), None)
    return {"output": chosen.name} if chosen else None


def _components(tensor: Tensor) -> int | None:
    size = tensor.shape[-1] if tensor.shape else None
    return size if isinstance(size, int) else None
