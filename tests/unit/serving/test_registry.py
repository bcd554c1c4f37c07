import math
import os
import resource
import socket
import subprocess
import sys
import warnings
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.graphs import contract, write
from worker.errors import ModelRejected, Unavailable
from worker.serving.loading import file_digest
from worker.serving.registry import Registry
from worker.serving.rollout import plan_rollout


@pytest.fixture(scope="module")
def registry_home(tmp_path_factory):
    """A folder with an sqlite registry, made once: its tables take seconds."""
    return tmp_path_factory.mktemp("registry")


@pytest.fixture
def uri(registry_home, monkeypatch):
    """The registry's address; artifacts of experiments lie beside it."""
    monkeypatch.chdir(registry_home)
    return f"sqlite:///{registry_home}/mlflow.db"


@pytest.fixture
def registry(uri):
    """One registered model of the test's own."""
    return Registry(uri, f"heimdall-{uuid4().hex}")


@pytest.fixture
def model(tmp_path):
    """A model file with its contract beside it."""
    write(tmp_path, beside=contract())
    return tmp_path / "model.onnx"


def move_to_stage(registry, version, stage):
    """Use the registry's older way, which warns of its age."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        registry._client().transition_model_version_stage(registry._name, version, stage)


def production(registry):
    """What should serve, as the registry's words are read."""
    return plan_rollout(registry.view()).primary


def without_alias(registry, model, **options):
    """Register a version to which no alias points."""
    version = registry.register(model, alias="other", **options)
    registry._client().delete_registered_model_alias(registry._name, "other")
    return version


def test_the_alias_names_the_version_that_serves(registry, model):
    """The newest registered version is not production unless the alias says so."""
    first = registry.register(model, metrics={"accuracy": 120.5})
    without_alias(registry, model)
    record = production(registry)
    assert (record.version, record.alias, record.name) == (first, "production", registry._name)
    assert record.digest == file_digest(model)
    assert record.metrics == {"accuracy": 120.5}
    assert record.run_id
    assert record.created_ms > 1_600_000_000_000


def test_moving_the_alias_moves_production(registry, model):
    """Promotion and rollback are the same act."""
    first, second = registry.register(model), registry.register(model)
    assert production(registry).version == second
    registry._client().set_registered_model_alias(registry._name, "production", first)
    assert production(registry).version == first


def test_a_download_holds_the_model_and_its_contract_alone(registry, model):
    """The directory is private, and gone afterwards."""
    registry.register(model, contract=model.parent / "contract.json")
    with registry.download(production(registry)) as directory:
        assert sorted(path.name for path in directory.iterdir()) == ["contract.json", "model.onnx"]
        assert file_digest(directory / "model.onnx") == file_digest(model)
        assert directory.stat().st_mode & 0o777 == 0o700
    assert not directory.exists()


def test_a_model_may_have_its_contract_inside(registry, model):
    """A version without contract.json is downloaded without one."""
    registry.register(model)
    with registry.download(production(registry)) as directory:
        assert [path.name for path in directory.iterdir()] == ["model.onnx"]


def test_the_directory_is_removed_when_loading_fails(registry, model):
    """Nothing is left behind by a version that was rejected."""
    registry.register(model)
    kept = []

    def reject():
        with registry.download(production(registry)) as directory:
            kept.append(directory)
            raise ModelRejected("golden")

    with pytest.raises(ModelRejected):
        reject()
    assert not kept[0].exists()


def test_stages_serve_where_there_is_no_alias(registry, model):
    """Of several versions in Production, the highest number serves; an alias wins over any stage."""
    versions = [without_alias(registry, model) for _ in range(3)]
    for version in versions[:2]:
        move_to_stage(registry, version, "Production")
    move_to_stage(registry, versions[2], "Staging")
    record = production(registry)
    assert (record.version, record.alias) == (versions[1], "production")
    registry._client().set_registered_model_alias(registry._name, "production", versions[2])
    assert (production(registry).version, production(registry).alias) == (versions[2], "production")


def test_a_model_nobody_promoted_is_rejected(registry, model):
    """Registered is not promoted; the refusal says what to do."""
    without_alias(registry, model)
    with pytest.raises(ModelRejected, match="point that alias to the one to serve"):
        production(registry)


def test_an_unknown_model_is_rejected(registry):
    """The registry answers, and has no such model."""
    with pytest.raises(ModelRejected, match="the registry refuses"):
        production(registry)


def test_a_deleted_version_is_rejected(registry, model):
    """An alias that leads nowhere serves nobody."""
    version = registry.register(model)
    registry._client().delete_model_version(registry._name, version)
    with pytest.raises(ModelRejected):
        production(registry)


@pytest.mark.parametrize("extra", ["second.onnx", None])
def test_a_version_is_one_onnx_file(registry, model, extra):
    """Two graphs, or none, are no version: nobody could say which is meant."""
    registry.register(model)
    record = production(registry)
    artifacts = Path(record.source.removeprefix("file://"))
    if extra is None:
        (artifacts / "model.onnx").rename(artifacts / "model.bin")
    else:
        (artifacts / extra).write_bytes(b"x")
    found = 0 if extra is None else 2
    with pytest.raises(ModelRejected, match=rf"holds {found} \.onnx files"), registry.download(record):
        pass


def test_artifacts_that_are_gone_are_no_version_that_serves(registry, model):
    """A record whose files were deleted ends in an error of ours, and leaves no directory."""
    registry.register(model)
    record = production(registry)
    artifacts = Path(record.source.removeprefix("file://"))
    for path in artifacts.iterdir():
        path.unlink()
    artifacts.rmdir()
    with pytest.raises((ModelRejected, Unavailable)), registry.download(record):
        pass


def test_a_disk_that_takes_no_file_is_named(registry, model):
    """A download that the disk does not take is no fault of the registry, and the message does not say so."""
    registry.register(model)
    record = production(registry)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(Unavailable, match=r"the files of version 1 cannot be had: .*File too large"):
            registry.download(record).__enter__()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_version_registered_elsewhere_has_no_digest(registry, model):
    """A version made with MLflow's own tools lacks the tag; loading will say so."""
    version = registry.register(model)
    registry._client().delete_model_version_tag(registry._name, version, "heimdall.digest")
    assert production(registry).digest is None


def test_a_metric_that_is_no_number_does_not_make_a_version_another(registry, model):
    """NaN differs from itself: with one, each look would find something new to serve."""
    registry.register(model, metrics={"accuracy": 120.5, "loss": math.nan})
    record = production(registry)
    assert record.metrics == {"accuracy": 120.5}
    assert record == production(registry)


def test_a_version_without_a_run_has_no_metrics(registry, model):
    """Files may be registered without any training run."""
    registry.register(model)
    source = production(registry).source
    made = registry._client().create_model_version(registry._name, source)
    registry._client().set_registered_model_alias(registry._name, "production", made.version)
    record = production(registry)
    assert (record.run_id, record.metrics) == (None, {})


def test_a_server_that_is_away_is_unavailable_soon():
    """A refused connection is told within a few attempts, not after MLflow's minutes."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    # In a process of its own, because MLflow reads its limits when it is imported.
    program = (
        "from worker.serving.registry import Registry\n"
        "from worker.errors import Unavailable\n"
        f"try: Registry('http://127.0.0.1:{port}', 'm').view()\n"
        "except Unavailable as error: print('unavailable:', error)\n"
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    answer = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=60, check=True
    )
    assert answer.stdout.startswith("unavailable: the registry does not answer")


def test_a_database_that_cannot_be_read_is_unavailable(tmp_path):
    """A registry file that is damaged is a registry that is away, not the end of the worker."""
    (tmp_path / "mlflow.db").write_bytes(b"no database " * 100)
    with pytest.raises(Unavailable):
        Registry(f"sqlite:///{tmp_path}/mlflow.db", "m").view()


def test_an_address_of_no_registry_is_rejected():
    """A scheme that MLflow does not know is a setting to correct."""
    with pytest.raises(ModelRejected, match="unsupported URI"):
        Registry("ftp://registry", "m").view()


def test_every_part_is_read_at_once(registry, model):
    """Parts and their versions, tags included; other aliases play no part."""
    versions = {alias: registry.register(model, alias=alias) for alias in ("production", "canary", "shadow", "old")}
    registry._client().set_model_version_tag(registry._name, versions["canary"], "heimdall.canary_weight", "12.5")
    view = registry.view()
    assert view.aliases == {alias: versions[alias] for alias in ("production", "canary", "shadow")}
    assert {record.version: record.alias for record in view.records.values()} == {
        versions["production"]: "production",
        versions["canary"]: "canary",
        versions["shadow"]: "shadow",
    }
    assert view.paused is None
    plan = plan_rollout(view)
    assert [record.version for record in plan.versions] == [versions[a] for a in ("production", "canary", "shadow")]
    assert plan.canary_weight == 12.5


def test_a_version_of_two_parts_is_read_as_production(registry, model):
    """A canary that was promoted, and whose alias still stands."""
    version = registry.register(model)
    registry._client().set_registered_model_alias(registry._name, "canary", version)
    record = registry.view().records[version]
    assert record.alias == "production"
    assert plan_rollout(registry.view()).canary is None


def test_a_mark_of_failure_stands_once(registry, model):
    """The same mark again changes nothing, and a long reason is cut."""
    version = registry.register(model)
    registry.mark_failed(version, "r" * 1000)
    marked = registry.view()
    assert marked.records[version].tags["heimdall.failed"] == "r" * 300
    registry.mark_failed(version, "r" * 1000)
    assert registry.view() == marked


def test_a_mark_on_nothing_is_refused(registry, model):
    """A version that does not exist cannot have failed."""
    registry.register(model)
    with pytest.raises(ModelRejected, match="the registry refuses"):
        registry.mark_failed("99", "no")


def test_the_version_before_takes_the_place_of_production_that_failed(registry, model):
    """It is read beforehand, although no alias names it: a worker may know of the failure before the registry does."""
    first, second = registry.register(model), registry.register(model)
    registry._client().set_model_version_tag(registry._name, second, "heimdall.previous", first)
    assert set(registry.view().records) == {first, second}
    assert production(registry).version == second
    registry.mark_failed(second, "NaN")
    assert set(registry.view().records) == {first, second}
    assert (production(registry).version, production(registry).alias) == (first, "production")


def test_a_version_before_that_is_gone_is_rejected(registry, model):
    """The tag leads nowhere: nothing can take the place."""
    version = registry.register(model)
    registry._client().set_model_version_tag(registry._name, version, "heimdall.previous", "99")
    assert production(registry).version == version
    registry.mark_failed(version, "NaN")
    with pytest.raises(ModelRejected, match="no version before it can take its place"):
        production(registry)


def test_the_fleets_pause_is_a_tag(registry, model):
    """Its value says who and why; without it nobody paused."""
    registry.register(model)
    registry._client().set_registered_model_tag(registry._name, "heimdall.paused", "alice: storm")
    assert registry.view().paused == "alice: storm"
    registry._client().delete_registered_model_tag(registry._name, "heimdall.paused")
    assert registry.view().paused is None
