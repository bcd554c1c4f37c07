import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.graphs import LINEAR, Shape, contract, iq_golden, record, write
from worker.errors import ModelRejected
from worker.serving.proof import ProofLimits, prove_in_child

MIB = 1024 * 1024
DRIFTED = Shape(position=(45.1, 7.6))
LIMITS = ProofLimits(wall_s=60.0, data_bytes=4096 * MIB)
DEADLY = Path(__file__).resolve().parents[2] / "support" / "deadly"


def prove(directory, written, limits=LIMITS, *, require_golden=False):
    """Prove in a child."""
    prove_in_child(directory, written, limits, max_batch_size=4, require_golden=require_golden)


def proven(directory, shape=LINEAR):
    """A model with a golden vector."""
    return write(directory, shape, beside=contract(golden=[iq_golden(contract())]))


@pytest.fixture
def interpreter(tmp_path, monkeypatch):
    """Lets a shell script take the place of the interpreter."""

    def replace(script):
        path = tmp_path / "interpreter"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o700)
        monkeypatch.setattr(sys, "executable", str(path))

    return replace


@pytest.fixture
def at_load(tmp_path, monkeypatch):
    """Lets the child run some lines when it comes to load the model."""

    def run(lines):
        folder = tmp_path / "site"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(
            "import sys\n"
            "if 'worker.serving.proof' in sys.orig_argv:\n"
            "    import json, os, resource, time\n"
            "    import onnxruntime\n"
            "    original = onnxruntime.InferenceSession\n"
            "    def load(*args, **options):\n"
            + "".join(f"        {line}\n" for line in lines)
            + "        return original(*args, **options)\n"
            "    onnxruntime.InferenceSession = load\n"
        )
        monkeypatch.setenv("PYTHONPATH", str(folder))

    return run


def test_a_good_model_proves_itself(tmp_path):
    """With its golden vectors; no file is left beside it."""
    prove(tmp_path, proven(tmp_path), require_golden=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["contract.json", "model.onnx"]


def test_the_childs_reason_is_the_parents(tmp_path):
    """What refused in the child is told as if it had been here."""
    with pytest.raises(ModelRejected, match="no golden vectors"):
        prove(tmp_path, write(tmp_path, beside=contract()), require_golden=True)
    with pytest.raises(ModelRejected, match=r"the digest of model\.onnx is"):
        prove(tmp_path, record("sha256:0"))


@pytest.mark.parametrize(("shape", "reason"), [(Shape(fails_from_batch=3), "batch of 4"), (DRIFTED, "golden")])
def test_it_is_run_in_the_child(tmp_path, shape, reason):
    """Golden vectors and the largest batch, not the file alone."""
    with pytest.raises(ModelRejected, match=reason):
        prove(tmp_path, proven(tmp_path, shape))


def test_a_model_that_kills_its_process_kills_the_child_alone(tmp_path, monkeypatch):
    """As native code dies: the signal is named."""
    monkeypatch.setenv("PYTHONPATH", str(DEADLY))
    prove(tmp_path, write(tmp_path, beside=contract()))
    with pytest.raises(ModelRejected, match=r"crashes the process that runs it \(SIGSEGV\)"):
        prove(tmp_path, write(tmp_path, inside="deadly", beside=contract()))


def test_a_model_that_takes_too_long_is_ended(tmp_path, at_load):
    """After the wall limit, and its process with it."""
    at_load([f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))", "time.sleep(600)"])
    started = time.monotonic()
    with pytest.raises(ModelRejected, match="within 5 s"):
        prove(tmp_path, write(tmp_path, beside=contract()), ProofLimits(5.0, LIMITS.data_bytes))
    assert time.monotonic() - started < 30
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_model_that_takes_too_much_memory_is_refused(tmp_path, at_load):
    """An allocation over the limit fails in the child alone; with more memory the same model passes."""
    at_load([f"bytearray({1024 * MIB})"])
    written = write(tmp_path, beside=contract())
    with pytest.raises(ModelRejected, match="cannot load the model"):
        prove(tmp_path, written, ProofLimits(60.0, 768 * MIB))
    prove(tmp_path, written)


def test_the_smallest_limit_refuses_any_model(tmp_path):
    """However the libraries take it that there is no memory, it ends as a refusal."""
    with pytest.raises(ModelRejected):
        prove(tmp_path, proven(tmp_path), ProofLimits(60.0, MIB))


def test_the_child_gives_way(tmp_path, at_load):
    """Niced, one thread, no core files: jobs go on while a version is proven."""
    at_load(
        [
            "found = [os.nice(0), resource.getrlimit(resource.RLIMIT_CORE), resource.getrlimit(resource.RLIMIT_DATA)]",
            f"json.dump([*found, os.environ['OMP_NUM_THREADS']], open({str(tmp_path / 'found')!r}, 'w'))",
        ]
    )
    prove(tmp_path, write(tmp_path, beside=contract()))
    found = json.loads((tmp_path / "found").read_text())
    assert found == [max(10, os.nice(0)), [0, 0], [LIMITS.data_bytes] * 2, "1"]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("cat > /dev/null; echo nonsense; echo bad luck >&2; exit 3", "code 3 and no verdict: bad luck"),
        ("cat > /dev/null", "code 0 and no verdict"),
        ("cat > /dev/null; echo '{\"rejected\": null}'; kill -KILL $$", "SIGKILL"),
        ("exit 1", "code 1 and no verdict"),
    ],
)
def test_a_child_without_a_verdict_is_a_refusal(tmp_path, interpreter, script, reason):
    """Garbage, silence, a death after the verdict, an order nobody reads."""
    interpreter(script)
    with pytest.raises(ModelRejected, match=reason):
        prove(tmp_path, record("sha256:0"))


def test_the_child_dies_with_its_parent(tmp_path, at_load):
    """A worker that is killed leaves no process behind."""
    file = tmp_path / "pid"
    at_load([f"open({str(file)!r}, 'w').write(str(os.getpid()))", "time.sleep(600)"])
    written = write(tmp_path, beside=contract())
    program = (
        "from pathlib import Path\n"
        "from tests.support.graphs import record\n"
        "from worker.serving.proof import ProofLimits, prove_in_child\n"
        f"prove_in_child(Path({str(tmp_path)!r}), record({written.digest!r}), ProofLimits(60, {LIMITS.data_bytes}),"
        " max_batch_size=1, require_golden=False)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program]) as parent:
        _until(lambda: file.exists() and file.read_text())
        parent.send_signal(signal.SIGKILL)
    child = Path("/proc", file.read_text())
    _until(lambda: not child.exists() or ") Z " in (child / "stat").read_text())


def _until(condition):
    ends = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.02)
