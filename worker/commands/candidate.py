"""A model to look at, as files."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from worker.serving.rollout import VersionRecord

SCHEME: Final = "models:"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model and its contract.

    Attributes:
        name: as the user named it.
        contract: of its own; None where it can only be inside the model.
        version: what the registry says of it; None for a file.
    """

    name: str
    model: Path
    contract: Path | None
    version: VersionRecord | None = None


class NoSuchModel(Exception):
    """There is nothing to look at: an argument is wrong."""


@contextmanager
def candidate(source: str, contract: Path | None, tracking_uri: str) -> Iterator[Candidate]:
    """The files of a model; a version of the registry is downloaded into a private directory for as long.

    Args:
        source: a path, `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        contract: to take in place of the model's own.
        tracking_uri: of the registry.

    Raises:
        NoSuchModel: the argument is no model, or a file cannot be read.
        ModelRejected: the version holds no single ONNX file.
        Unavailable: the registry does not answer.
    """
    if contract is not None:
        check_readable(contract)
    if not source.startswith(SCHEME):
        check_readable(Path(source))
        yield Candidate(source, Path(source), contract)
        return
    from worker.commands.versions import downloaded  # noqa: PLC0415 - MLflow takes a second, and a file needs none of it

    with downloaded(source, contract, tracking_uri) as found:
        yield found


def check_readable(path: Path) -> None:
    """Raise `NoSuchModel` unless the path is a file that can be read."""
    if not path.exists():
        raise NoSuchModel(f"{path}: no such file")
    if not path.is_file():
        raise NoSuchModel(f"{path}: this is no file")
    if not os.access(path, os.R_OK):
        raise NoSuchModel(f"{path}: it cannot be read")
