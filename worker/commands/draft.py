"""A contract drafted from the graph: what the graph tells is filled in, the rest is null and asked for.

The questions stand in the draft's card, by place: `heimdall model check` shows them at what is not filled in, and
reminds of the others until they are removed.
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from worker.commands.document import OPEN_QUESTIONS
from worker.commands.families import Family, recognise
from worker.commands.guesses import (
    Document,
    Guess,
    Questions,
    guess_input,
    receiver_rows,
    rows_elsewhere,
)
from worker.commands.onnx_file import OnnxFile, Size
from worker.commands.readings import guess_confidence, guess_position, guess_uncertainty


@dataclass(frozen=True, slots=True)
class Draft:
    """A drafted contract.

    Attributes:
        missing: place → question, where the draft holds null.
        unsure: place → question, where it holds a likely value.
        family: whose training filled in more than the graph tells, or None.
    """

    document: Document
    missing: Questions
    unsure: Questions
    family: str | None


def draft(file: OnnxFile) -> Draft:
    """Draft the contract of a graph."""
    elsewhere = rows_elsewhere(file.inputs)
    inputs = {tensor.name: guess_input(tensor, elsewhere) for tensor in file.inputs}
    rows = [receiver_rows(tensor, inputs[tensor.name]) for tensor in file.inputs]
    parts = {f"inputs/{name}": guess for name, guess in inputs.items()} | {
        "receivers": _receivers(rows, masked=any(g.document["feature"] == "receiver_mask" for g in inputs.values())),
        "position": guess_position(file.outputs),
        "uncertainty": guess_uncertainty(file.outputs),
    }
    document: Document = {
        "version": "1",
        "sample_rate": None,
        "min_samples": 512,
        "area": None,
        "level": "dbfs",
        **{part: parts[part].document for part in ("receivers", "position", "uncertainty")},
        "inputs": {name: guess.document for name, guess in inputs.items()},
        "confidence": guess_confidence(file.outputs),
        "golden": [],
    }
    questions = {f"{place}/{inner}": text for place, guess in parts.items() for inner, text in guess.questions.items()}
    family = recognise(file)
    if family is not None:
        _fill_in(document, questions, family)
    return _sorted(document, questions | _GENERAL, family)


_GENERAL = {
    "sample_rate": "hertz, if the model takes one rate only; null = any",
    "min_samples": "fewest samples per receiver that make sense",
    "area": "where the model is valid: [west, south, east, north] or a GeoJSON Polygon",
    "level": "`dbm` if training knew the power at the antenna: each receiver must then state its full_scale_dbm",
    "golden": "recordings with the outputs that the training code gives for them; at least one",
}


def _receivers(rows: list[Size], *, masked: bool) -> Guess:
    fixed = [size for size in rows if isinstance(size, int)]
    most = max(fixed, default=None)
    if len(fixed) < len(rows) and most == 1:
        most = None  # Only inputs without a receiver axis said so.
    questions = {"set": "a fixed network, whose rows stand for certain receivers? then replace set by slots"}
    if most is None:
        questions["set/max"] = "most receivers of one run, at most 64"
    questions["min_present"] = "fewest receivers that the model was trained with"
    return Guess({"set": {"max": most, "keep": "strongest"}, "min_present": 1 if masked else most or 1}, questions)


def _fill_in(document: Document, questions: Questions, family: Family) -> None:
    for place, value in family.values.items():
        *parents, last = place.split("/")
        node: Any = document
        for part in parents:
            node = node[part]
        node[last] = deepcopy(value)
        for asked in [asked for asked in questions if asked == place or asked.startswith(f"{place}/")]:
            del questions[asked]
    questions |= family.questions


def _sorted(document: Document, questions: Questions, family: Family | None) -> Draft:
    """Questions whose place holds null (outside of what may be null) come first."""
    missing = {
        place: text for place, text in questions.items() if place not in _GENERAL and _holds_null(document, place)
    }
    unsure = {place: text for place, text in questions.items() if place not in missing and _asks(document, place)}
    document["card"] = {OPEN_QUESTIONS: missing | unsure}
    return Draft(document, missing, unsure, family.name if family else None)


def _asks(document: Document, place: str) -> bool:
    """Whether a question is still worth asking: a size that the graph has fixed is not."""
    return not (place.endswith("/length") and isinstance(_at(document, place), int))


def _holds_null(document: Document, place: str) -> bool:
    value = _at(document, place)
    return value is None or (isinstance(value, list) and any(_is_null(item) for item in value))


def _is_null(item: Any) -> bool:
    return item is None or (isinstance(item, dict) and item.get("name", item) is None)


def _at(document: Document, place: str) -> Any:
    node: Any = document
    for part in place.split("/"):
        node = node[int(part)] if isinstance(node, list) else node[part]
    return node
