"""Model files kept on disk by digest, and the last roll-out that served: a worker can start while the registry is down.

{directory}/{model name}/rollout.json
{directory}/{model name}/sha256-…/model.onnx, contract.json
"""

import hashlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Final

import orjson

from worker.errors import ModelRejected, Unavailable
from worker.serving.loading import MODEL_NAME, file_digest
from worker.serving.registry import Registry
from worker.serving.rollout import Rollout, VersionRecord

_ROLLOUT: Final = "rollout.json"
_PRIVATE: Final = 0o700
_KEPT_S: Final = 86_400.0


class Library:
    """Files of versions, fetched once.

    Args:
        registry: where they come from.
        directory: where they stay; None = nothing outlives its use.
        name: of the registered model.
    """

    def __init__(self, registry: Registry, directory: Path | None, name: str) -> None:
        self._registry = registry
        self._home = directory / name if directory else None

    @contextmanager
    def files(self, record: VersionRecord) -> Iterator[Path]:
        """A directory with the files of a version: kept ones, or else downloaded ones.

        Raises:
            ModelRejected, Unavailable: see `Registry.download`.
            OSError: the disk takes no files.
        """
        kept = self._place(record)
        if kept is not None and kept.is_dir():
            if _holds(kept, record):
                yield kept
                return
            shutil.rmtree(kept, ignore_errors=True)  # Damaged on this disk, which is no fault of the version.
        with self._registry.download(record) as directory:
            yield directory
            if kept is not None:
                self._keep(directory, kept)

    def remember(self, rollout: Rollout[VersionRecord]) -> None:
        """Note what serves, and forget the files of what does not.

        Raises:
            OSError: the disk takes no files.
        """
        if self._home is None:
            return
        self._home.mkdir(_PRIVATE, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self._home, delete=False) as file:
            file.write(orjson.dumps(asdict(rollout)))
        Path(file.name).replace(self._home / _ROLLOUT)
        used = {self._place(record) for record in rollout.versions}
        for directory in self._home.iterdir():
            # Another worker on this disk may be about to load what is new.
            if directory.is_dir() and directory not in used and _age_s(directory) > _KEPT_S:
                shutil.rmtree(directory, ignore_errors=True)

    def last_known(self) -> Rollout[VersionRecord]:
        """The roll-out that served last. Its files are verified by their digests when they are loaded.

        Raises:
            Unavailable: none is known.
        """
        if self._home is None:
            raise Unavailable("no last-known roll-out is kept: HEIMDALL_STATE_DIR is not set")
        try:
            document = orjson.loads((self._home / _ROLLOUT).read_bytes())
            canary, shadow = (
                VersionRecord(**part) if part else None for part in (document["canary"], document["shadow"])
            )
            return Rollout(VersionRecord(**document["primary"]), canary, float(document["canary_weight"]), shadow)
        except (OSError, ValueError, TypeError, LookupError) as error:  # Damaged, or of another release.
            raise Unavailable(f"no last-known roll-out: {type(error).__name__}: {error}") from error

    def _place(self, record: VersionRecord) -> Path | None:
        if self._home is None or record.digest is None:
            return None
        # The contract may lie beside the model and is not in its digest: another version keeps its own.
        key = hashlib.sha256(f"{record.version} {record.digest}".encode()).hexdigest()
        return self._home / f"sha256-{key}"

    @staticmethod
    def _keep(directory: Path, place: Path) -> None:
        place.parent.mkdir(_PRIVATE, parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=place.parent))
        shutil.copytree(directory, staging, dirs_exist_ok=True)
        try:
            staging.rename(place)
        except OSError:  # Another worker on this disk kept the same files first.
            shutil.rmtree(staging, ignore_errors=True)


def _holds(directory: Path, record: VersionRecord) -> bool:
    """Whether the model's file is there, whole."""
    try:
        return file_digest(directory / MODEL_NAME) == record.digest
    except ModelRejected:
        return False


def _age_s(directory: Path) -> float:
    """Seconds since it was made; 0 where another worker on this disk has just renamed or removed it."""
    try:
        return time.time() - directory.stat().st_mtime
    except FileNotFoundError:
        return 0.0
