"""The MLflow registry: which version plays which part, and its files. Blocking: run it in a thread.

Aliases come first; a registry that still works with stages is read by `Production` where there is no alias.
"""

import logging
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from worker.errors import ModelRejected, Unavailable
from worker.serving.contract import FILE_NAME
from worker.serving.loading import MODEL_NAME, file_digest
from worker.serving.rollout import (
    CANARY,
    FAILED_TAG,
    PAUSED_TAG,
    PREVIOUS_TAG,
    PRODUCTION,
    SHADOW,
    RegistryView,
    VersionRecord,
)
from worker.serving.sources import check_source

# MLflow reads these when it is imported. Its own defaults make a refused connection take four minutes.
_ENVIRONMENT: Final = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
for _key, _value in _ENVIRONMENT.items():
    os.environ.setdefault(_key, _value)

from mlflow.artifacts import download_artifacts, list_artifacts  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.tracking import MlflowClient  # noqa: E402
from sqlalchemy.exc import SQLAlchemyError  # noqa: E402

# That MLflow makes its tables is no news.
logging.getLogger("mlflow").setLevel(logging.WARNING)

DIGEST_TAG: Final = "heimdall.digest"
_SQLITE: Final = "sqlite:///"
PARTS: Final = (PRODUCTION, CANARY, SHADOW)
_STAGE: Final = "Production"
_NOT_THERE: Final = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"})
_MAX_TEXT: Final = 300

Answer = TypeVar("Answer")


class Registry:
    """One registered model.

    Args:
        tracking_uri: of the MLflow server, or `sqlite:///…`.
        name: of the registered model.
        pause_s: before each question. One holds the interpreter for milliseconds, several in a row would hold up the
            jobs beside them.
    """

    def __init__(self, tracking_uri: str, name: str, pause_s: float = 0.0) -> None:
        self._uri = tracking_uri
        self._name = name
        self._pause_s = pause_s
        self._made: Any = None

    def view(self) -> RegistryView:
        """What the registry says now.

        Raises:
            ModelRejected: it answers, but knows no such model.
            Unavailable: it does not answer.
        """
        return self._ask(self._view)

    def mark_failed(self, version: str, reason: str) -> None:
        """Mark a version as rolled back; to do so twice changes nothing.

        Raises:
            Unavailable: the registry does not answer.
        """
        self._ask(lambda: self._client().set_model_version_tag(self._name, version, FAILED_TAG, reason[:_MAX_TEXT]))

    def find(self, *, alias: str | None = None, version: str | None = None) -> VersionRecord:
        """Any version, by its alias or else by its number.

        Raises:
            ModelRejected: there is none.
            Unavailable: the registry does not answer.
        """
        return self._ask(lambda: self._find(version or self._of_alias(str(alias)), alias or ""))

    @contextmanager
    def download(self, record: VersionRecord) -> Iterator[Path]:
        """A private directory with `model.onnx` and perhaps `contract.json` of one version; removed at the end.

        Raises:
            ModelRejected: the version holds no single ONNX file.
            Unavailable: the artifacts cannot be had now.
        """
        directory = Path(tempfile.mkdtemp(prefix="heimdall-model-"))
        directory.chmod(0o700)
        try:
            self._ask(lambda: self._fetch(record, directory), f"the files of version {record.version} cannot be had")
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def register(
        self,
        model: Path,
        *,
        contract: Path | None = None,
        alias: str | None = PRODUCTION,
        metrics: dict[str, float] | None = None,
    ) -> str:
        """Log a model file as a new version, with its digest, and let `alias`, if given, point to it.

        Returns:
            The new version.

        Raises:
            Unavailable: the registry does not answer.
        """
        return self._ask(lambda: self._register(model, contract, alias, metrics or {}))

    def _ask(self, question: Callable[[], Answer], failing: str = "the registry does not answer") -> Answer:
        try:
            return question()
        except ModelRejected:
            raise
        except MlflowException as error:
            if error.error_code in _NOT_THERE:
                raise ModelRejected(f"the registry refuses: {error.message}") from error
            raise Unavailable(f"{failing}: {_brief(error)}") from error
        except (OSError, SQLAlchemyError) as error:
            raise Unavailable(f"{failing}: {_brief(error)}") from error

    def _client(self) -> Any:
        """MLflow's client, made when it is first wanted; asked for before each question, so that the pause stands."""
        time.sleep(self._pause_s)
        if self._made is None:
            self._made = MlflowClient(self._uri, registry_uri=self._uri)
        return self._made

    def _view(self) -> RegistryView:
        model = self._client().get_registered_model(self._name)
        aliases = {str(alias): str(version) for alias, version in model.aliases.items()}
        if PRODUCTION not in aliases and (staged := self._staged()) is not None:
            aliases[PRODUCTION] = staged
        parts: dict[str, str] = {alias: aliases[alias] for alias in PARTS if alias in aliases}
        records = {version: self._find(version, alias) for alias, version in reversed(parts.items())}
        production = records.get(parts.get(PRODUCTION, ""))
        previous = production.tags.get(PREVIOUS_TAG) if production is not None else None
        # Whether production has failed or not: a worker may know before the registry does.
        if previous is not None and previous not in records and (found := self._find_perhaps(previous)) is not None:
            records[previous] = found
        return RegistryView(parts, records, model.tags.get(PAUSED_TAG))

    def _staged(self) -> str | None:
        """The version in the stage Production, for registries that still work with stages."""
        found = self._client().search_model_versions(f"name = '{self._name}'")
        staged = [int(version.version) for version in found if version.current_stage == _STAGE]
        return str(max(staged)) if staged else None

    def _of_alias(self, alias: str) -> str:
        return str(self._client().get_model_version_by_alias(self._name, alias).version)

    def _find(self, version: str, alias: str) -> VersionRecord:
        return self._record(self._client().get_model_version(self._name, version), alias)

    def _find_perhaps(self, version: str) -> VersionRecord | None:
        """A version that a tag names: it may be gone, or never have been."""
        try:
            return self._find(version, PRODUCTION)
        except MlflowException as error:
            if error.error_code in _NOT_THERE:
                return None
            raise

    def _record(self, found: Any, alias: str) -> VersionRecord:
        run = self._client().get_run(found.run_id) if found.run_id else None
        return VersionRecord(
            name=self._name,
            version=str(found.version),
            alias=alias,
            digest=found.tags.get(DIGEST_TAG),
            source=self._client().get_model_version_download_uri(self._name, found.version),
            run_id=found.run_id or None,
            created_ms=int(found.creation_timestamp),
            tags=dict(found.tags),
            # NaN differs from itself: a record with one would never be the record of what serves already.
            metrics={key: value for key, value in run.data.metrics.items() if math.isfinite(value)} if run else {},
        )

    def _fetch(self, record: VersionRecord, directory: Path) -> None:
        check_source(record.source, self._uri)
        files = [
            str(f.path) for f in list_artifacts(artifact_uri=record.source, tracking_uri=self._uri) if not f.is_dir
        ]
        graphs = [f for f in files if f.endswith(".onnx")]
        if len(graphs) != 1:
            raise ModelRejected(f"version {record.version} holds {len(graphs)} .onnx files; it must be one")
        wanted = {graphs[0]: MODEL_NAME} | {f: FILE_NAME for f in files if f.rsplit("/", 1)[-1] == FILE_NAME}
        for path, name in wanted.items():
            uri = f"{record.source.rstrip('/')}/{path.rsplit('/', 1)[-1]}"
            with tempfile.TemporaryDirectory(dir=directory) as staging:
                got = download_artifacts(artifact_uri=uri, dst_path=staging, tracking_uri=self._uri)
                Path(got).replace(directory / name)

    def _create_experiment(self) -> str:
        # Beside a registry in a file, not in whatever directory the command was given in.
        file = self._uri.removeprefix(_SQLITE)
        beside = (Path(file).absolute().parent / "artifacts").as_uri() if file != self._uri else None
        return str(self._client().create_experiment(self._name, artifact_location=beside))

    def _register(self, model: Path, contract: Path | None, alias: str | None, metrics: dict[str, float]) -> str:
        try:
            self._client().create_registered_model(self._name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        experiment = self._client().get_experiment_by_name(self._name)
        experiment_id = experiment.experiment_id if experiment else self._create_experiment()
        run = self._client().create_run(experiment_id)
        with tempfile.TemporaryDirectory() as staging:
            shutil.copy(model, Path(staging, MODEL_NAME))
            if contract is not None:
                shutil.copy(contract, Path(staging, FILE_NAME))
            self._client().log_artifacts(run.info.run_id, staging)
        for key, value in metrics.items():
            self._client().log_metric(run.info.run_id, key, value)
        self._client().set_terminated(run.info.run_id)
        tags = {DIGEST_TAG: file_digest(model)}
        made = self._client().create_model_version(self._name, run.info.artifact_uri, run.info.run_id, tags=tags)
        if alias is not None:
            self._client().set_registered_model_alias(self._name, alias, made.version)
        return str(made.version)


def _brief(error: Exception) -> str:
    """The innermost cause: what surrounds it repeats the address at every level of the library."""
    cause: BaseException = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    return f"{type(cause).__name__}: {' '.join(str(cause).split())[:_MAX_TEXT]}"
