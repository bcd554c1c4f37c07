"""Any version of the registry: found by alias or number, and downloaded."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from worker.commands.candidate import Candidate, NoSuchModel
from worker.errors import ModelRejected
from worker.serving.contract import FILE_NAME
from worker.serving.loading import MODEL_NAME
from worker.serving.registry import Registry

_REFERENCE: Final = re.compile(r"models:/+(?P<name>[A-Za-z0-9_.-]{1,64})(?:@(?P<alias>[\w.-]+)|/(?P<version>[0-9]+))")


@contextmanager
def downloaded(source: str, contract: Path | None, tracking_uri: str) -> Iterator[Candidate]:
    """A version in a private directory; see `candidate`."""
    named = _REFERENCE.fullmatch(source)
    if named is None:
        raise NoSuchModel(f"{source}: it must be models:/NAME@ALIAS or models:/NAME/VERSION")
    registry = Registry(tracking_uri, named["name"])
    try:
        record = registry.find(alias=named["alias"], version=named["version"])
    except ModelRejected as error:
        raise NoSuchModel(f"{source}: {error}") from error
    with registry.download(record) as directory:
        beside = directory / FILE_NAME
        yield Candidate(source, directory / MODEL_NAME, contract or (beside if beside.exists() else None), record)
