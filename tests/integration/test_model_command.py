"""`heimdall model` as a data scientist runs it: real files, a real registry, what is printed and the exit code."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import onnx
import pytest
from click.testing import Result
from onnx import helper
from typer.testing import CliRunner

from client.cli import app
from tests.support.graphs import Shape, contract, write
from tests.unit.commands.models import proven
from worker.serving.contract import METADATA_KEY, ModelContract
from worker.serving.loading import file_digest, load_version
from worker.serving.registry import Registry
from worker.serving.session import SessionOptions

DEMO = Path(__file__).parents[2] / "examples/models/torino.onnx"
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def tracking_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A registry in a file, made once: its tables take seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('registry')}/mlflow.db"


@pytest.fixture
def name() -> str:
    """A registered model of the test's own."""
    return f"heimdall-{uuid4().hex}"


@pytest.fixture
def run(tracking_uri: str, name: str) -> Run:
    """Run `heimdall model …` against the registry."""
    environment = {"HEIMDALL_MLFLOW_TRACKING_URI": tracking_uri, "HEIMDALL_MODEL_NAME": name, "COLUMNS": "200"}

    def heimdall(*arguments: object) -> Result:
        return CliRunner().invoke(app, ["model", *map(str, arguments)], env=environment)

    return heimdall


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A good model with its contract inside."""
    write(tmp_path, inside=proven())
    return tmp_path / "model.onnx"


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """A model whose covariance is singular, with its contract inside."""
    folder = tmp_path / "bad"
    folder.mkdir()
    shape = Shape(uncertainty=(0.0, 0.0))
    write(folder, shape, inside=proven(shape))
    return folder / "model.onnx"


def test_the_demo_model_passes(run: Run) -> None:
    """The report names every check, and ends with the verdict."""
    ran = run("check", DEMO)
    assert (ran.exit_code, ran.stderr) == (0, ""), ran.output
    assert re.search(r"ok +batch +alone and in a batch of 32: positions differ by at most", ran.stdout)
    assert re.search(r"may serve: \d+ ok$", ran.stdout.strip())
    assert file_digest(DEMO)[:19] in ran.stdout


def test_a_model_that_fails_ends_with_one(run: Run, bad: Path) -> None:
    """What failed, what to do, and exit code 1."""
    ran = run("check", bad)
    assert ran.exit_code == 1
    assert re.search(r"fail +answers +the model's covariance is not positive definite", ran.stdout)
    assert "→ see uncertainty/kind" in ran.stdout
    assert "may not serve" in ran.stdout


def test_a_report_for_programs(run: Run, bad: Path, model: Path) -> None:
    """One JSON object on standard output, the same exit codes."""
    failed, passed = run("check", bad, "--json"), run("check", model, "--json", "--max-batch", 2)
    assert (failed.exit_code, passed.exit_code) == (1, 0)
    assert json.loads(failed.stdout)["passed"] is False
    document = json.loads(passed.stdout)
    assert document["digest"] == file_digest(model)
    assert {check["status"] for check in document["checks"]} == {"ok"}


def test_a_contract_beside_wins(run: Run, model: Path, tmp_path: Path) -> None:
    """What `--contract` names is checked, not what is inside."""
    other = tmp_path / "contract.json"
    other.write_text(json.dumps(contract()))
    ran = run("check", model, "--contract", other)
    assert ran.exit_code == 1
    assert "contract.json is valid" in ran.stdout
    assert "there are no golden vectors" in ran.stdout


def test_a_version_is_registered_and_serves(run: Run, model: Path, tracking_uri: str, name: str) -> None:
    """Digest, metrics and alias are set; a worker loads what the registry then names."""
    ran = run("register", model, "--alias", "production", "--metric", "accuracy_m=2536.5", "--metric", "loss=1e-3")
    assert ran.exit_code == 0, ran.output
    assert f"{name} version 1 is registered, {file_digest(model)}" in ran.stdout
    assert "Workers take it on `heimdall ctl reload`" in ran.stdout
    registry = Registry(tracking_uri, name)
    record = registry.find(alias="production")
    assert (record.version, record.digest) == ("1", file_digest(model))
    assert record.metrics == {"accuracy_m": 2536.5, "loss": 1e-3}
    with registry.download(record) as directory:
        assert load_version(directory, record, SessionOptions(), max_batch_size=2).label == "1"


def test_a_registered_contract_is_the_one_given(
    run: Run, model: Path, tmp_path: Path, tracking_uri: str, name: str
) -> None:
    """The file goes beside the model, and is what a check of the version reads."""
    beside = tmp_path / "c.json"
    beside.write_text(json.dumps(proven(card={"where": "beside"})))
    assert run("register", model, "--contract", beside, "--alias", "canary").exit_code == 0
    ran = run("check", f"models:/{name}@canary")
    assert ran.exit_code == 0, ran.output
    assert "contract.json is valid" in ran.stdout
    assert re.search(r"ok +digest +is what the registry says", ran.stdout)


@pytest.mark.parametrize("alias", ["production", "canary", "shadow"])
def test_each_part_is_explained(run: Run, model: Path, name: str, alias: str) -> None:
    """What the version will do, and that workers have to be told."""
    ran = run("register", model, "--alias", alias, "--no-check")
    assert f"The alias {alias} points to it" in ran.stdout
    assert run("check", f"models:/{name}@{alias}").exit_code == 0


def test_a_version_without_part_changes_nothing(run: Run, model: Path, name: str) -> None:
    """No alias is set or left behind; the version can be looked at by its number."""
    assert run("register", model, "--alias", "production").exit_code == 0
    ran = run("register", model)
    assert ran.exit_code == 0
    assert "No alias points to it: nothing changes" in ran.stdout
    assert run("check", f"models:/{name}/2").exit_code == 0
    assert "not found" in run("check", f"models:/{name}@unassigned").stderr


def test_what_fails_is_not_registered(run: Run, bad: Path, name: str) -> None:
    """The refusal is the report; `--no-check` registers all the same."""
    ran = run("register", bad, "--alias", "production")
    assert ran.exit_code == 1
    assert "Nothing was registered." in ran.stdout
    assert run("check", f"models:/{name}@production").exit_code == 2
    assert run("register", bad, "--alias", "shadow", "--no-check").exit_code == 0
    assert run("check", f"models:/{name}@shadow").exit_code == 1


def test_a_damaged_version_is_found(run: Run, model: Path, tracking_uri: str, name: str) -> None:
    """The digest of the registry is compared with the file that comes."""
    run("register", model, "--alias", "production")
    source = Path(Registry(tracking_uri, name).find(alias="production").source.removeprefix("file://"))
    damaged = onnx.load(model)
    helper.set_model_props(damaged, {METADATA_KEY: json.dumps(proven(card={"x": 1}))})
    onnx.save(damaged, source / "model.onnx")
    ran = run("check", f"models:/{name}@production")
    assert ran.exit_code == 1
    assert re.search(r"fail +digest +the file has sha256:", ran.stdout)


def test_a_check_leaves_no_directory(run: Run, model: Path, name: str, tmp_path: Path, monkeypatch) -> None:
    """What was downloaded is gone afterwards."""
    run("register", model, "--alias", "production", "--no-check")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    assert run("check", f"models:/{name}@production").exit_code == 0
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("check none.onnx", "heimdall: none.onnx: no such file"),
        ("check .", "heimdall: .: this is no file"),
        ("check MODEL --contract none.json", "heimdall: none.json: no such file"),
        ("check models:/x", "it must be models:/NAME@ALIAS or models:/NAME/VERSION"),
        ("check models:/../etc@production", "it must be models:/NAME@ALIAS"),
        ("check models:/nobody@production", "the registry refuses"),
        ("check models:/nobody/7", "the registry refuses"),
        ("check models:/x/1 --tracking-uri http://127.0.0.1:9", "the registry does not answer"),
        ("check models:/x/1 --tracking-uri ftp://there", "unsupported URI"),
        ("register none.onnx", "none.onnx: no such file"),
        ("register models:/x/1", "models:/x/1: no such file"),
        ("register MODEL --metric accuracy", "--metric 'accuracy': it must be KEY=NUMBER"),
        ("register MODEL --metric accuracy=good", "it must be KEY=NUMBER"),
        ("register MODEL --metric accuracy=nan", "it must be KEY=NUMBER"),
        ("register MODEL --no-check --tracking-uri http://127.0.0.1:9", "the registry does not answer"),
        ("init none.onnx", "none.onnx: no such file"),
        ("init MODEL -o MODEL", "it exists already"),
        ("init MODEL -o none/contract.json", "No such file or directory"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_two(run: Run, model: Path, line: str, message: str) -> None:
    """The message says what was wrong, and nothing was done."""
    ran = run(*line.replace("MODEL", str(model)).split())
    assert (ran.exit_code, ran.stdout) == (2, ""), ran.output
    assert message in ran.stderr
    assert len(ran.stderr.strip().splitlines()) == 1, ran.stderr


def test_a_draft_asks_and_the_check_reminds(run: Run, model: Path, tmp_path: Path) -> None:
    """From the graph to a contract that serves: draft, see what is missing, fill in, check."""
    bare = tmp_path / "bare.onnx"
    stripped = onnx.load(model)
    del stripped.metadata_props[:]
    onnx.save(stripped, bare)
    out = tmp_path / "contract.json"
    ran = run("init", bare, "-o", out)
    assert (ran.exit_code, ran.stdout) == (0, ""), ran.output
    assert "inputs/mel/n_fft: samples of one FFT" in ran.stderr
    assert f"Then: heimdall model check {bare} --contract {out}" in ran.stderr
    checked = run("check", bare, "--contract", out)
    assert checked.exit_code == 1
    assert re.search(r"inputs/mel/n_fft is not filled in\s+→ samples of one FFT", checked.stdout)
    answered = json.loads(out.read_text()) | {
        key: value for key, value in proven().items() if key in ("inputs", "position", "golden", "card", "area")
    }
    answered["uncertainty"]["kind"] = "sigma"
    answered |= {"sample_rate": 48_000, "min_samples": 160}
    out.write_text(json.dumps(answered))
    ran = run("check", bare, "--contract", out)
    assert ran.exit_code == 0, ran.output


def test_a_draft_goes_to_standard_output(run: Run) -> None:
    """The JSON alone, so that it can be redirected; what is said goes to standard error."""
    ran = run("init", DEMO)
    assert ran.exit_code == 0
    assert set(json.loads(ran.stdout)) == set(ModelContract.model_fields)
    assert "The model holds a contract already" in ran.stderr


def test_a_draft_is_replaced_only_by_force(run: Run, model: Path, tmp_path: Path) -> None:
    """A contract on which somebody worked is not lost by a second draft."""
    out = tmp_path / "contract.json"
    out.write_text("mine")
    assert run("init", model, "-o", out).exit_code == 2
    assert out.read_text() == "mine"
    assert run("init", model, "-o", out, "--force").exit_code == 0
    assert json.loads(out.read_text())["version"] == "1"


def test_no_model_is_no_draft(run: Run, tmp_path: Path) -> None:
    """A file of something else is named as such."""
    (tmp_path / "x.onnx").write_text("no model")
    ran = run("init", tmp_path / "x.onnx")
    assert ran.exit_code == 2
    assert "it is no ONNX model" in ran.stderr
