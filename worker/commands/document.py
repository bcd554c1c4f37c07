"""The contract as a document: where it is, and everything that is wrong with it, each with its place."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import orjson
from pydantic import ValidationError

from worker.commands.findings import Report
from worker.serving.contract import METADATA_KEY, ModelContract

CHECK: Final = "contract"
OPEN_QUESTIONS: Final = "open_questions"
"""Key of the card under which a drafted contract keeps what only its author knows: place → question."""

_PAGE: Final = "docs/model-contract.md"
_MISSING: Final = "Field required"
# Where a field has alternatives, validation complains of each. Those that the author cannot have meant are left out:
# part of the alternative's name → whether a value may be meant as it.
_ALTERNATIVES: Final[dict[str, Callable[[Any, str], bool]]] = {
    "Slots": lambda value, _: isinstance(value, dict) and "slots" in value,
    "ReceiverSet": lambda value, _: not isinstance(value, dict) or "slots" not in value,
    "tuple[": lambda value, name: isinstance(value, list) and len(value) == name.count(",") + 1,
    "dict[": lambda value, _: isinstance(value, dict),
    "Origin": lambda value, _: isinstance(value, dict),
    "literal[": lambda value, _: not isinstance(value, dict),
}


def read_document(inside: dict[str, str], beside: Path | None, report: Report) -> tuple[ModelContract, bytes] | None:
    """The contract and its text; None where there is no valid one, which is then reported.

    Args:
        inside: metadata of the model file.
        beside: the contract's own file, which wins.
        report: to add to.
    """
    where = f"{METADATA_KEY} in the model" if beside is None else beside.name
    text = inside.get(METADATA_KEY, "").encode() if beside is None else beside.read_bytes()
    if not text.strip():
        report.fail(
            CHECK,
            "there is none, neither inside the model nor beside it" if beside is None else f"{where} is empty",
            "`heimdall model init` drafts one from the graph; give it with --contract",
        )
        return None
    document = _parse(text, where, report)
    contract = None if document is None else _validate(document, where, report)
    return None if contract is None else (contract, text)


def _parse(text: bytes, where: str, report: Report) -> dict[str, Any] | None:
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        report.fail(
            CHECK, f"{where} is no JSON: line {error.lineno}, column {error.colno}: {error.msg}", "correct it there"
        )
        return None
    if not isinstance(document, dict):
        report.fail(CHECK, f"{where} holds no JSON object", f"its fields are described in {_PAGE}")
        return None
    return document


def _validate(document: dict[str, Any], where: str, report: Report) -> ModelContract | None:
    try:
        contract = ModelContract.model_validate(document)
    except ValidationError as error:
        questions = _questions(document.get("card"))
        for place, (wrong, value) in _errors(document, error).items():
            if value is None and wrong != _MISSING:
                report.fail(CHECK, f"{place} is not filled in", _question(questions, place), place=place)
            else:
                report.fail(CHECK, f"{place}: {wrong}", f"see {_PAGE}", place=place)
        return None
    report.ok(CHECK, f"{where} is valid")
    questions = _questions(contract.card)
    if questions:
        report.warn(
            CHECK,
            f"its card still holds open questions of the draft, on {', '.join(questions)}",
            f"make sure of each, then remove card/{OPEN_QUESTIONS}",
        )
    return contract


def _questions(card: Any) -> dict[str, str]:
    questions = card.get(OPEN_QUESTIONS) if isinstance(card, dict) else None
    return {str(k): str(v) for k, v in questions.items()} if isinstance(questions, dict) else {}


def _question(questions: dict[str, str], place: str) -> str:
    """What was asked of a place, or of what holds it."""
    while place and place not in questions:
        place = place.rpartition("/")[0]
    return questions.get(place, f"see {_PAGE}")


def _errors(document: dict[str, Any], error: ValidationError) -> dict[str, tuple[str, Any]]:
    """Place → what is wrong there, and the value that stands there."""
    found: dict[str, tuple[str, Any]] = {}
    unmeant: dict[str, tuple[str, Any]] = {}
    for one in error.errors(include_url=False):
        parts, meant = _place(document, one["loc"])
        place = "/".join(map(str, parts)) or "the whole"
        (found if meant else unmeant).setdefault(place, (one["msg"].removeprefix("Value error, "), one["input"]))
    # A value that fits no alternative at all must not go unmentioned.
    return found | {place: wrong for place, wrong in unmeant.items() if not any(f.startswith(place) for f in found)}


def _place(document: dict[str, Any], parts: Sequence[int | str]) -> tuple[list[int | str], bool]:
    """A place in the document's own keys, and whether it is not one within an alternative that was not meant.

    The place of an alternative that was not meant is that of the value which has alternatives.
    """
    place: list[int | str] = []
    node: Any = document
    for part in parts:
        inside = part in node if isinstance(node, dict) else isinstance(node, list) and part in range(len(node))
        alternative = None if inside else _alternative(part)
        if alternative is not None:
            if not alternative(node, str(part)):
                return place, False
        elif inside:
            node = node[part]
            place.append(part)
        elif isinstance(part, int) or (isinstance(node, dict) and part == parts[-1]):
            place.append(part)
    return place, True


def _alternative(part: int | str) -> Callable[[Any, str], bool] | None:
    return next((meant for name, meant in _ALTERNATIVES.items() if name in str(part)), None)
