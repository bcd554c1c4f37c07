"""`make image`: builds deploy/Dockerfile with buildah where there is no container engine, and checks what came of it.

The base image is made with debootstrap from the Debian mirror that this machine uses; packages come from the index
that pip uses here. Needs root. What a build leaves behind is removed.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from deploy.local import apt
from deploy.local.errors import LocalStackError

ROOT: Final = Path(__file__).resolve().parents[2]
TARGETS: Final = ("worker", "mlflow", "worker-gpu")
SUITE: Final = "bookworm"
PACKAGES: Final = "python3,python3-venv,python-is-python3,ca-certificates"
BASE: Final = "localhost/heimdall-base"
SHARED: Final = ("/etc/ssl/certs", "/etc/pip.conf")
"""What the build sees of this machine: its authorities and how it reaches packages. None of it is in the image."""

_TIMEOUT_S: Final = 3600


@dataclass(frozen=True, slots=True)
class Image:
    """What an image says of itself.

    Attributes:
        user: that its process has.
        entrypoint: of the process.
        healthcheck: command, or nothing.
        stop_signal: that ends it.
    """

    user: str
    entrypoint: list[str]
    healthcheck: list[str]
    stop_signal: str

    @classmethod
    def read(cls, document: dict[str, Any]) -> "Image":
        """Read what `buildah inspect` says of an image in Docker's format."""
        config = document["Docker"]["config"]
        check = (config.get("Healthcheck") or {}).get("Test") or []
        return cls(config.get("User", ""), config.get("Entrypoint") or [], check, config.get("StopSignal") or "SIGTERM")

    def problems(self) -> list[str]:
        """What is wrong with it; empty where it is as it must be."""
        wrong = []
        if not self.user.isdecimal() or int(self.user) == 0:
            wrong.append(f"its user is {self.user!r}: it must be a number other than 0, which Kubernetes can check")
        if not self.entrypoint or self.entrypoint[0].endswith("sh"):
            wrong.append(f"its entrypoint is {self.entrypoint}: signals must reach the program, not a shell")
        if self.healthcheck[:1] not in (["CMD"], ["CMD-SHELL"]):
            wrong.append("it has no health check")
        return wrong


class Workshop:
    """A private store of images, which is gone with its directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        store = ["--root", str(directory / "store"), "--runroot", str(directory / "run"), "--storage-driver", "vfs"]
        self._buildah = ["buildah", *store]

    def make_base(self) -> None:
        """Make the base image."""
        system = self._directory / "system"
        _run(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(system), _mirror()])
        container = self._ask("from", "scratch")
        self._ask("add", "--quiet", container, str(system), "/")
        self._ask("commit", "--quiet", container, BASE)
        self._ask("rm", container)
        shutil.rmtree(system)

    def build(self, target: str) -> Image:
        """Build one target of deploy/Dockerfile, and read what it says of itself."""
        volumes = [word for path in SHARED if Path(path).exists() for word in ("--volume", f"{path}:{path}:ro")]
        how = ["--isolation", "chroot", "--format", "docker", "--build-arg", f"BASE={BASE}", *volumes]
        what = ["--file", "deploy/Dockerfile", "--target", target, "--tag", _name(target), "."]
        self._ask("bud", "--quiet", *how, *what)
        return Image.read(json.loads(self._ask("inspect", "--type", "image", _name(target))))

    def try_out(self, target: str, script: str) -> str:
        """What a shell script prints in the built image, under its own user."""
        container = self._ask("from", "--pull-never", _name(target))
        return self._ask("run", "--isolation", "chroot", container, "--", "sh", "-c", script)

    def _ask(self, *words: str) -> str:
        return _run([*self._buildah, *words])


TRIALS: Final = {
    "worker": 'test "$(id -u)" = 10001 && test ! -w /opt/heimdall && python -c "import worker.service" && '
    "heimdall --help > /dev/null && (HEIMDALL_AMQP_URL=no-url python -m worker 2>&1; test $? = 2)",
    "mlflow": 'test "$(id -u)" = 10002 && test -w /data && mlflow --version',
    "worker-gpu": 'test "$(id -u)" = 10001 && python -c "'
    "import onnxruntime, worker.service; assert 'CUDAExecutionProvider' in onnxruntime.get_available_providers()\"",
}
"""What must work in each image."""


def main(arguments: list[str] | None = None) -> int:
    """Build one target; 0 where the image is as it must be."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local.image", description="Build an image with buildah.")
    parser.add_argument("target", nargs="?", default="worker", choices=TARGETS)
    target = parser.parse_args(arguments).target
    directory = Path(tempfile.mkdtemp(prefix="heimdall-image-"))
    try:
        return _make(Workshop(directory), target)
    except LocalStackError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _make(workshop: Workshop, target: str) -> int:
    for program in ("debootstrap", "buildah"):
        _need(program)
    print(f"making the base image ({SUITE}) …", flush=True)
    workshop.make_base()
    print(f"building {target} …", flush=True)
    image = workshop.build(target)
    print(workshop.try_out(target, TRIALS[target]).strip())
    for wrong in image.problems():
        print(f"wrong: {wrong}", file=sys.stderr)
    words = " ".join(image.entrypoint[:3])
    print(
        f"image: target={target} user={image.user} stop_signal={image.stop_signal} "
        f"healthcheck={'yes' if image.healthcheck else 'no'} entrypoint='{words}' problems={len(image.problems())}"
    )
    return 1 if image.problems() else 0


def _need(program: str) -> None:
    def installed() -> bool:
        return shutil.which(program) is not None

    if installed():
        return
    if not apt.possible():
        raise LocalStackError(f"{program} is missing: install it, or run this as root where there is apt-get")
    apt.install(program, installed)


def _mirror() -> str:
    """Where this machine gets its Debian packages from."""
    listed = _run(["apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)"])
    places = [line.split()[1] for line in listed.splitlines() if line.startswith(f"{SUITE} ")]
    if not places:
        raise LocalStackError(f"apt knows no mirror of Debian {SUITE}: run this on Debian {SUITE}")
    return places[0]


def _name(target: str) -> str:
    return f"localhost/heimdall-{target}"


def _run(command: list[str]) -> str:
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=ROOT, timeout=_TIMEOUT_S, env=dict(os.environ)
    )
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise LocalStackError(f"{' '.join(command[:1])} ended with code {done.returncode}\n{tail}")
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
