"""Repeated measurements as a median with its least and greatest, as the report keeps them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Any

Document = dict[str, Any]


def spread(values: Iterable[float]) -> Document:
    """Median, least and greatest of some values, and the values themselves in their order.

    Raises:
        ValueError: there are none.
    """
    raw = list(values)
    if not raw:
        raise ValueError("no measurement, no median")
    return {"median": median(raw), "min": min(raw), "max": max(raw), "raw": raw}


def spreads(measured: Sequence[Any], names: Sequence[str]) -> Document:
    """Spreads of the named attributes of repeated measurements."""
    return {name: spread(getattr(one, name) for one in measured) for name in names}


def middle(document: Mapping[str, Any] | None, *path: str) -> float | None:
    """The median at a path into a report, or None where it was not measured."""
    place: Any = document
    for key in path:
        place = place.get(key) if isinstance(place, Mapping) else None
    return float(place["median"]) if isinstance(place, Mapping) and "median" in place else None


def quotient(numerator: float | None, denominator: float | None) -> float | None:
    """One over the other, or None where either was not measured."""
    return None if numerator is None or not denominator else numerator / denominator


def best(values: Iterable[float | None], choose: Callable[[Iterable[float]], float]) -> float | None:
    """The greatest or least of those that were measured."""
    known = [value for value in values if value is not None]
    return choose(known) if known else None
