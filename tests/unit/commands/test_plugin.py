"""The worker's commands come into `heimdall` by an entry point, and cost nothing to whoever has the client alone."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
WORKER_ONLY = ("aiohttp", "antimeridian", "mlflow", "onnxruntime", "prometheus_client", "pydantic_settings", "pyproj")
WORKER_ONLY += ("redis", "shapely", "sqlalchemy", "alembic", "structlog", "uvloop", "worker")


def without_the_worker(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `heimdall` where only the client's libraries can be imported."""
    program = (
        "import sys\n"
        f"for name in {WORKER_ONLY!r}: sys.modules[name] = None\n"
        "from client.cli import app\n"
        f"app({list(arguments)!r})\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )


@pytest.mark.parametrize("arguments", [["model"], ["model", "check", "x.onnx", "--json"], ["model", "--help"]])
def test_without_the_worker_the_extra_is_named(arguments: list[str]) -> None:
    """Whatever is asked of `heimdall model`, the answer is what to install."""
    ran = without_the_worker(*arguments)
    assert ran.returncode == 2
    assert "pip install 'heimdall-worker[worker]'" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_without_the_worker_the_client_works() -> None:
    """`heimdall --help` lists both commands, and says which is not available."""
    ran = without_the_worker("--help")
    assert ran.returncode == 0, ran.stderr
    assert "locate" in ran.stdout
    assert "Not available here" in ran.stdout
    assert without_the_worker("locate", "--help").returncode == 0


def test_a_missing_library_names_the_extra(tmp_path: Path) -> None:
    """The worker's code without its libraries, as after a plain `pip install heimdall-worker`."""
    program = (
        "import sys\nsys.modules['onnxruntime'] = None\nfrom client.cli import app\napp(['model', 'check', 'x.onnx'])\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )
    assert ran.returncode == 2
    assert "No module named 'onnxruntime'" in ran.stderr
    assert "pip install 'heimdall-worker[worker]'" in ran.stderr


def test_help_imports_nothing_heavy() -> None:
    """`heimdall --help` and `heimdall locate` do not wait for ONNX Runtime or MLflow."""
    program = (
        "import sys\nfrom client.cli import app\n"
        "print(sorted({'onnxruntime', 'mlflow', 'shapely'} & set(sys.modules)))\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert ran.stdout.strip() == "[]"


def test_the_installed_command_knows_it() -> None:
    """The entry point is part of the distribution."""
    command = shutil.which("heimdall", path=str(Path(sys.executable).parent))
    assert command is not None
    ran = subprocess.run([command, "model", "--help"], capture_output=True, text=True, timeout=60, check=True)
    assert all(name in ran.stdout for name in ("check", "register", "init"))
