"""Installs Debian packages as root without starting what they bring."""

import fcntl
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from deploy.local.errors import MissingProgram

LOCK = Path("/run/heimdall-local-apt.lock")
POLICY = Path("/usr/sbin/policy-rc.d")
POLICY_TEXT = "#!/bin/sh\n# Heimdall's local stack: no service starts while packages are installed.\nexit 101\n"
MARK = "HEIMDALL_LOCAL_INSTALL"


def possible() -> bool:
    """Whether this user on this machine may install packages."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install(package: str, installed: Callable[[], bool]) -> None:
    """Install a package unless another process just did; blocks while that one is at it.

    Raises:
        MissingProgram: apt-get failed, or the package does not hold what `installed` looks for.
    """
    with _machine_lock():
        if installed():
            return
        print(
            f"{package} is not installed: installing it with apt-get (its system service is not started)",
            file=sys.stderr,
        )
        mark = secrets.token_hex(8)
        try:
            with services_denied():
                _update()
                _apt_get("install", "-y", "--no-install-recommends", package, mark=mark)
        finally:
            end_strays(mark)
    if not installed():
        raise MissingProgram(
            f"apt-get installed {package}, but the program it should bring was not found; reinstall it"
        )


@cache
def _update() -> None:
    """Once per process: the lists do not age while we run."""
    _apt_get("update", mark="")


def _apt_get(*arguments: str, mark: str) -> None:
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", MARK: mark}
    argv = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300", *arguments]
    done = subprocess.run(argv, env=env, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise MissingProgram(
            f"{' '.join(argv)} failed with code {done.returncode}; run it by hand to repair apt\n{tail}"
        )


@contextmanager
def _machine_lock() -> Iterator[None]:
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def services_denied(policy: Path = POLICY) -> Iterator[None]:
    """Forbid invoke-rc.d to start services (policy-rc.d, exit 101); a policy of the machine's own is left alone."""
    if policy.exists() and policy.read_text(errors="replace") != POLICY_TEXT:
        yield
        return
    policy.write_text(POLICY_TEXT)
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink(missing_ok=True)


def end_strays(mark: str) -> None:
    """End every process that still carries the installation's mark in its environment."""
    needle = f"{MARK}={mark}".encode()
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if needle in entry.read_bytes().split(b"\0"):
                os.kill(int(entry.parent.name), signal.SIGKILL)
