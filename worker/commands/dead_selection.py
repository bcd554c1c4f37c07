"""Which dead letters are meant."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from schemas.time import parse_datetime_ns
from worker.commands.dead_letter import Letter

_AGE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(s|m|h|d)")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_NS_PER_S: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Selection:
    """A filter: every condition that is given must hold.

    Attributes:
        jobs: ids.
        codes: why they failed.
        since_ns: Unix time, nanoseconds; a letter that does not say when it failed is none of them.
    """

    jobs: frozenset[str] = frozenset()
    codes: frozenset[str] = frozenset()
    since_ns: int | None = None

    @property
    def everything(self) -> bool:
        """Whether no condition is given."""
        return not (self.jobs or self.codes or self.since_ns is not None)

    def __contains__(self, letter: Letter) -> bool:
        if self.jobs and letter.job_id not in self.jobs:
            return False
        if self.codes and letter.code not in self.codes:
            return False
        return self.since_ns is None or (letter.failed_ns is not None and letter.failed_ns >= self.since_ns)


def since(text: str, now_ns: Callable[[], int] = time.time_ns) -> int:
    """An instant, RFC 3339, or an age such as `90s`, `30m`, `2h`, `7d`; Unix time in nanoseconds.

    Raises:
        ValueError: neither.
    """
    age = _AGE.fullmatch(text)
    if age is not None:
        return now_ns() - int(float(age[1]) * _SECONDS[age[2]] * _NS_PER_S)
    try:
        return parse_datetime_ns(text)
    except ValueError:
        raise ValueError(f"{text!r:.40} is neither an age (90s, 30m, 2h, 7d) nor an instant (RFC 3339)") from None
