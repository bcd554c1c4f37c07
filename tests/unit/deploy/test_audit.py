import json

import pytest

from deploy.local import audit
from deploy.local.audit import CLEAN, ROOT, UNKNOWN, WRONG, Advisories, check_code, check_locks, main, read_advisories
from deploy.local.locks import lock_files, pins, problems
from deploy.local.unsafe_code import findings, search

HASH = "--hash=sha256:" + "a" * 64
GOOD = f"# made by a tool\nnumpy==2.4.6 \\\n    {HASH} \\\n    {HASH}\n    # via scipy\nredis[hiredis]==8.1 {HASH}\n"


def test_the_project_s_lock_files_are_locked() -> None:
    """Every one, with hashes for all packages and no word of where they come from."""
    assert len(lock_files(ROOT)) >= 5
    assert check_locks(ROOT) == []


def test_the_project_runs_no_data_as_code() -> None:
    """No pickle, no eval, no shell; what is allowed has a reason and is still there."""
    assert check_code(ROOT) == []
    found = {(finding.file, finding.name) for finding in search(ROOT, audit.SEARCHED)}
    assert audit.ALLOWED.keys() <= found


def test_pins_are_read_over_continued_lines() -> None:
    """Name, version, and number of hashes."""
    assert [(pin.name, pin.version, pin.hashes) for pin in pins(GOOD)] == [("numpy", "2.4.6", 2), ("redis", "8.1", 1)]
    assert problems(GOOD) == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("numpy>=2", "not pinned"),
        ("numpy==2.4.6", "has no hash"),
        (f"numpy==2.4.6 {HASH[:-1]}", "has no hash"),
        ("--index-url https://registry.invalid/simple", "names a place"),
        ("-i http://registry.invalid", "names a place"),
        (f"numpy @ https://registry.invalid/numpy.whl {HASH}", "names a place"),
        ("# from https://registry.invalid/simple", "names a place"),
        ("-e git+ssh://somewhere/numpy", "names a place"),
    ],
)
def test_what_is_wrong_with_a_lock_file_is_said(line: str, said: str) -> None:
    """A range, a missing or short hash, a registry's host, also in a comment."""
    assert any(said in problem for problem in problems(f"{GOOD}{line}\n"))


def test_an_empty_lock_file_locks_nothing() -> None:
    """Which must not count as clean."""
    assert problems("# nothing\n") == ["it names no package"]


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib as j",
        "def f():\n    import cloudpickle",
        "np.load(path)",
        "numpy.load(path, allow_pickle=True)",
        "np.lib.format.read_array(f, allow_pickle=wanted)",
        "torch.load(path)",
        "yaml.load(text, Loader=yaml.Loader)",
        "mlflow.pyfunc.load_model(uri)",
        "eval(text)",
        "subprocess.run(text, shell=True)",
        "os.system(text)",
        "__import__(name)",
    ],
)
def test_unsafe_code_is_found(source: str) -> None:
    """In each of its disguises."""
    assert list(findings(source))


@pytest.mark.parametrize(
    "source", ["np.load(path, allow_pickle=False)", "yaml.safe_load(text)", "json.loads(text)", "re.compile(text)"]
)
def test_safe_code_is_left_alone(source: str) -> None:
    """What reads data as data."""
    assert not list(findings(source))


SKIPPED = {"name": "numpy", "skip_reason": "Dependency not found on PyPI and could not be audited: numpy (2.4.6)"}
SOUND = {"name": "redis", "version": "8.1.0", "vulns": []}
HOLED = {"name": "yarl", "version": "1.0", "vulns": [{"id": "PYSEC-0000-1", "fix_versions": ["1.1"]}]}


@pytest.mark.parametrize(
    ("packages", "said"),
    [([SOUND], "clean"), ([SOUND, SKIPPED], "unchecked(1-of-2)"), ([SOUND, SKIPPED, HOLED], "1-vulnerable")],
)
def test_a_package_that_was_not_asked_about_is_not_clean(packages: list[dict[str, object]], said: str) -> None:
    """pip-audit ends with 0 and `No known vulnerabilities` where the database did not answer at all."""
    found = Advisories()
    read_advisories(json.dumps({"dependencies": packages, "fixes": []}), found)
    assert str(found) == said


@pytest.mark.parametrize(
    ("packages", "options", "code"),
    [
        ([SOUND], [], CLEAN),
        ([SKIPPED], [], UNKNOWN),
        ([SKIPPED], ["--offline"], CLEAN),
        ([SKIPPED, HOLED], ["--offline"], WRONG),
    ],
)
def test_the_exit_code_says_what_is_known(
    packages: list[dict[str, object]],
    options: list[str],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Clean, wrong, or unknown; `--offline` accepts the last, and says so all the same."""
    found = Advisories()
    read_advisories(json.dumps({"dependencies": packages}), found)
    monkeypatch.setattr(audit, "ask_advisories", lambda _: found)
    monkeypatch.setattr(audit, "write_bill", lambda *_: 1)
    assert main(options) == code
    said = capsys.readouterr()
    assert f"advisories={found} " in said.out
    assert ("nobody knows" in said.err) == (SKIPPED in packages)


def test_a_bill_of_materials_holds_every_package(tmp_path) -> None:
    """By the real generator, of the smallest lock file."""
    lock, target = ROOT / "deploy/requirements/build.lock", tmp_path / "bill.json"
    assert audit.write_bill(lock, target) == len(pins(lock.read_text()))
    assert json.loads(target.read_text())["bomFormat"] == "CycloneDX"
