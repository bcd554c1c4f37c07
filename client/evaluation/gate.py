"""`--fail-if "coverage90<0.8"`: one figure, one comparator, one number; nothing is evaluated as code."""

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from client.errors import CaptureError

_FORM: Final = re.compile(r"\s*([a-z][a-z0-9_]*)\s*(<=|>=|==|!=|<|>)\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*")
_COMPARE: Final[dict[str, Callable[[float, float], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


@dataclass(frozen=True, slots=True)
class Gate:
    """A condition under which an evaluation fails."""

    metric: str
    comparator: str
    number: float

    def fails(self, figures: Mapping[str, float]) -> bool:
        """Whether the condition holds; a figure that could not be computed (NaN) fails every gate."""
        value = figures[self.metric]
        return math.isnan(value) or _COMPARE[self.comparator](value, self.number)

    def __str__(self) -> str:
        return f"{self.metric}{self.comparator}{self.number:g}"


def parse_gate(text: str, metrics: tuple[str, ...]) -> Gate:
    """Read a condition.

    Args:
        text: such as `coverage90<0.8`.
        metrics: the names there are.

    Raises:
        CaptureError: another form, or an unknown figure.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise CaptureError(
            f"--fail-if {text!r}: it must be METRIC COMPARATOR NUMBER with <, <=, >, >=, == or !=, "
            "such as coverage90<0.8"
        )
    metric, comparator, number = match.groups()
    if metric not in metrics:
        raise CaptureError(f"--fail-if {text!r}: no figure is called {metric!r}; there are {', '.join(metrics)}")
    return Gate(metric, comparator, float(number))
