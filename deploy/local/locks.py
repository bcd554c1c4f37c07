"""What lock files must be: every package at one version with hashes, and no word of where it comes from."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PIN: Final = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(\[[^]]+\])?==(?P<version>[^\s;\\]+)(?P<rest>.*)")
_HASH: Final = re.compile(r"--hash=sha256:[0-9a-f]{64}\b")
_PLACE: Final = re.compile(r"https?://|file:|git\+|--(extra-)?index-url|--find-links|(^|\s)-[if]\s| @ ")


@dataclass(frozen=True, slots=True)
class Pin:
    """One package of a lock file."""

    name: str
    version: str
    hashes: int


def pins(text: str) -> list[Pin]:
    """The packages of a lock file."""
    found = (_PIN.match(line) for line in _logical_lines(text))
    return [Pin(m["name"], m["version"], len(_HASH.findall(m["rest"]))) for m in found if m]


def problems(text: str) -> list[str]:
    """What is wrong with a lock file; empty where it is as it must be."""
    lines = list(_logical_lines(text))
    wrong = [f"not pinned to one version: {line[:80]}" for line in lines if not _PIN.match(line)]
    wrong += [f"{pin.name} {pin.version} has no hash" for pin in pins(text) if not pin.hashes]
    wrong += [f"names a place: {line.strip()[:80]}" for line in text.splitlines() if _PLACE.search(line)]
    return wrong if lines else ["it names no package"]


def lock_files(root: Path) -> list[Path]:
    """Every lock file of the project."""
    return sorted([*(root / "requirements").glob("*.lock"), *(root / "deploy/requirements").glob("*.lock")])


def _logical_lines(text: str) -> Iterator[str]:
    """Lines without comments, continued ones joined."""
    bare = "\n".join(line.split(" #")[0] for line in text.splitlines() if not line.lstrip().startswith("#"))
    for line in re.sub(r"\\\n\s*", " ", bare).splitlines():
        if line.strip():
            yield line.strip()
