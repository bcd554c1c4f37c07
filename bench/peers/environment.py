"""Virtual environments of peers: made once, with the project's own versions of what computes."""

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
VENVS: Final = ROOT / "out" / "bench" / "venvs"
COMMON: Final = Path(__file__).resolve().parent / "recipe.txt"
LOCK: Final = ROOT / "requirements" / "dev.lock"
UV: Final = "uv>=0.9,<1"
TAIL_LINES: Final = 6
_STAMP: Final = ".installed"
# With the packages that are named, the ones they live on.
_FOLLOWING: Final = ("aiormq", "hiredis")


class PeerUnavailable(Exception):
    """A peer cannot be set up here; the message is the reason."""


def install(venv: Path, requirements: Path) -> None:
    """Make a virtual environment, unless one is there for the same requirements.

    A package that the peer's own requirements name has the version they give; the others have the project's.

    Args:
        venv: to make.
        requirements: what goes into it, with the common ones.

    Raises:
        PeerUnavailable: with the installer's last words.
    """
    own = _names(requirements.read_text())
    pins = constrained(COMMON.read_text(), LOCK.read_text())
    constraints = "\n".join(pin for pin in pins if pin.partition("==")[0] not in own)
    wanted = f"{constraints}\n{COMMON.read_text()}\n{requirements.read_text()}"
    digest = hashlib.sha256(wanted.encode()).hexdigest()
    stamp = venv / _STAMP
    if stamp.exists() and stamp.read_text() == digest:
        return
    shutil.rmtree(venv, ignore_errors=True)
    _run(sys.executable, "-m", "venv", "--without-pip", str(venv))
    given = venv / "constraints.txt"
    given.write_text(constraints + "\n")
    python = str(venv / "bin" / "python")
    _run(_uv(), "pip", "install", "--quiet", "--python", python, "-c", str(given), "-r", str(requirements))
    stamp.write_text(digest)


def constrained(requirements: str, lock: str) -> list[str]:
    """What the lock file pins of the packages that the requirements name: `name==version`, a line each."""
    names = _names(requirements)
    pins = dict(re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s\\;]+)", lock, re.MULTILINE))
    return [f"{name}=={pins[name]}" for name in (*names, *_FOLLOWING) if name in pins]


def _names(requirements: str) -> list[str]:
    lines = [line for line in requirements.splitlines() if line and line[0] not in "#-"]
    return [re.split(r"[\[<>=!~ ]", line, maxsplit=1)[0] for line in lines]


def _uv() -> str:
    """An installer that shares what several environments hold; in an environment of its own."""
    venv = VENVS / ".uv"
    uv = venv / "bin" / "uv"
    if not uv.exists():
        _run(sys.executable, "-m", "venv", str(venv))
        _run(str(venv / "bin" / "pip"), "install", "--quiet", UV)
    return str(uv)


def _run(*argv: str) -> None:
    done = subprocess.run(argv, cwd=ROOT, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise PeerUnavailable(f"{Path(argv[0]).name} {argv[1]} failed: {without_addresses(done.stdout + done.stderr)}")


def without_addresses(output: str) -> str:
    """The last lines of an installer's output as one, for a report: a mirror's address is nobody's business."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return re.sub(r"\w+://\S+", "(address)", " ".join(lines[-TAIL_LINES:]))
