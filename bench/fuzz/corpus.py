"""Inputs that are kept: those that once broke something, and those that together reach what can be reached."""

import hashlib
from pathlib import Path
from typing import Final

CORPUS: Final = Path("tests/fuzz/corpus")
OUT: Final = Path("out/fuzz")


def seeds(target: str, directory: Path = CORPUS) -> list[bytes]:
    """The kept inputs of a target, in the order of their names."""
    return [path.read_bytes() for path in sorted((directory / target).glob("*")) if path.is_file()]


def keep(target: str, data: bytes, kind: str, directory: Path = CORPUS) -> Path:
    """Keep an input; the same one is kept once."""
    place = directory / target
    place.mkdir(parents=True, exist_ok=True)
    path = place / f"{kind}-{hashlib.sha256(data).hexdigest()[:16]}"
    path.write_bytes(data)
    return path
