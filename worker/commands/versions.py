"""Any version of the registry: found by alias or number, downloaded, or made without an alias."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from worker.commands.candidate import Candidate, NoSuchModel
from worker.errors import ModelRejected
from worker.serving.contract import FILE_NAME
from worker.serving.loading import MODEL_NAME
from worker.serving.model import VersionRecord
from worker.serving.registry import Registry

_REFERENCE: Final = re.compile(r"models:/+(?P<name>[A-Za-z0-9_.-]{1,64})(?:@(?P<alias>[\w.-]+)|/(?P<version>[0-9]+))")
_UNASSIGNED: Final = "unassigned"

# That MLflow makes its tables is nothing to a user who registers a model.
logging.getLogger("mlflow").setLevel(logging.WARNING)
logging.getLogger("alembic").setLevel(logging.WARNING)


class Versions(Registry):
    """The registry, asked for any version."""

    def find(self, *, alias: str | None, version: str | None) -> VersionRecord:
        """A version by its alias or its number.

        Raises:
            ModelRejected: there is none.
            Unavailable: the registry does not answer.
        """
        return self._ask(lambda: self._record(self._look_up(alias, version), alias or ""))

    def register_unassigned(self, model: Path, contract: Path | None, metrics: dict[str, float]) -> str:
        """Log a version that plays no part.

        Raises:
            Unavailable: the registry does not answer.
        """
        version = self.register(model, contract=contract, alias=_UNASSIGNED, metrics=metrics)
        self._ask(lambda: self._client.delete_registered_model_alias(self._name, _UNASSIGNED))
        return version

    def _look_up(self, alias: str | None, version: str | None) -> Any:
        if alias is not None:
            return self._client.get_model_version_by_alias(self._name, alias)
        return self._client.get_model_version(self._name, version)


@contextmanager
def downloaded(source: str, contract: Path | None, tracking_uri: str) -> Iterator[Candidate]:
    """A version in a private directory; see `candidate`."""
    named = _REFERENCE.fullmatch(source)
    if named is None:
        raise NoSuchModel(f"{source}: it must be models:/NAME@ALIAS or models:/NAME/VERSION")
    registry = Versions(tracking_uri, named["name"])
    try:
        record = registry.find(alias=named["alias"], version=named["version"])
    except ModelRejected as error:
        raise NoSuchModel(f"{source}: {error}") from error
    with registry.download(record) as directory:
        beside = directory / FILE_NAME
        yield Candidate(source, directory / MODEL_NAME, contract or (beside if beside.exists() else None), record)
