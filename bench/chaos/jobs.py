"""Jobs of the load: a few bodies at different levels, each stamped with its number so that no two are the same input.

The tiny model answers with a shift that follows from the level, so an answer shows which body it belongs to.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

LONGITUDE_DEG: Final = 7.6
TOLERANCE_DEG: Final = 2e-4
_STAMPED: Final = (1, 9, 17)
"""Second lowest byte of the real part of the first samples: under a hundredth of their value."""


@dataclass(frozen=True)
class Bodies:
    """What is published in turn.

    Attributes:
        sigmf: metadata of each, JSON text.
        bases: base64 of cf32_le, one channel.
        shifts_deg: how far east of LONGITUDE_DEG the model sees each.
        loud: base64 of one that is a thousand times louder.
    """

    sigmf: str
    bases: tuple[str, ...]
    shifts_deg: tuple[float, ...]
    loud: str

    @classmethod
    def read(cls, path: Path) -> "Bodies":
        """Read what `write` wrote."""
        document = json.loads(path.read_text())
        return cls(document["sigmf"], tuple(document["bases"]), tuple(document["shifts_deg"]), document["loud"])

    def write(self, path: Path) -> Path:
        """Write as JSON."""
        path.write_text(json.dumps(asdict(self)))
        return path

    def raw(self) -> list[bytes]:
        """The bodies, not stamped."""
        return [base64.b64decode(base) for base in self.bases]

    def raw_loud(self) -> bytes:
        """The loud body."""
        return base64.b64decode(self.loud)

    def fits(self, number: int, answer: Mapping[str, Any]) -> bool:
        """Whether a result has the position that the body of that number leads to; an error always fits."""
        if "code" in answer:
            return True
        shift = answer["position"]["longitude"] - LONGITUDE_DEG
        return bool(abs(shift - self.shifts_deg[number % len(self.bases)]) < TOLERANCE_DEG)


def stamp(base: bytes, number: int) -> bytes:
    """A body of its own for each number below 2**24."""
    body = bytearray(base)
    for place, value in zip(_STAMPED, number.to_bytes(len(_STAMPED), "little"), strict=True):
        body[place] ^= value
    return bytes(body)


def number_of(job_id: str) -> int:
    """The number in a job id, `{prefix}-{number}`; -1 where there is none."""
    digits = job_id.rpartition("-")[2]
    return int(digits) if digits.isdigit() else -1
