"""`prometheus()`: a Prometheus server of one's own; `promtool()`: its tool for rules."""

import http.client
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from deploy.local import apt
from deploy.local.errors import LocalStackError, MissingProgram
from deploy.local.ports import PortLease
from deploy.local.process import OwnedProcess

PACKAGE = "prometheus"
START_TIMEOUT_S = 30.0
PROBE_TIMEOUT_S = 2.0
TOOL_TIMEOUT_S = 60.0


@contextmanager
def prometheus(config: dict[str, Any]) -> Iterator[str]:
    """Give the URL of a server that answers; it is stopped and its data removed when the block ends.

    Args:
        config: what stands in prometheus.yml; paths of rule files absolute.

    Raises:
        MissingProgram: it is not installed, and cannot be here.
        StartFailed: it did not answer.
    """
    program = _program("prometheus")
    home, lease = Path(tempfile.mkdtemp(prefix="heimdall-prometheus-")), PortLease.take()
    (home / "prometheus.yml").write_text(yaml.safe_dump(config))
    options = {
        "config.file": home / "prometheus.yml",
        "storage.tsdb.path": home / "data",
        "web.listen-address": f"127.0.0.1:{lease.port}",
    }
    command = [program, *(f"--{name}={value}" for name, value in options.items())]
    process = OwnedProcess("Prometheus", command, {"PATH": "/usr/bin:/bin"}, home / "prometheus.log")
    url = f"http://127.0.0.1:{lease.port}"
    try:
        process.start()
        process.wait_ready(lambda: _answers(f"{url}/-/ready"), START_TIMEOUT_S, f"200 from {url}/-/ready")
        yield url
    finally:
        process.stop()
        lease.release()
        shutil.rmtree(home, ignore_errors=True)


def promtool(arguments: Sequence[str], directory: Path) -> str:
    """Run promtool and return what it said.

    Args:
        arguments: such as `["check", "rules", "alerts.yml"]`.
        directory: it runs in.

    Raises:
        MissingProgram: it is not installed, and cannot be here.
        LocalStackError: it found fault; the message carries what it said.
    """
    command = [_program("promtool"), *arguments]
    done = subprocess.run(command, cwd=directory, check=False, capture_output=True, text=True, timeout=TOOL_TIMEOUT_S)
    said = done.stdout + done.stderr
    if done.returncode != 0:
        raise LocalStackError(f"promtool {' '.join(arguments)} ended with code {done.returncode}:\n{said}")
    return said


def _program(name: str) -> str:
    if shutil.which(name) is None:
        if not apt.possible():
            raise MissingProgram(f"{name} is missing: sudo apt-get install {PACKAGE} brings it")
        apt.install(PACKAGE, lambda: shutil.which(name) is not None)
    found = shutil.which(name)
    if found is None:
        raise MissingProgram(f"{name} was not found on PATH; install the package {PACKAGE}")
    return found


def _answers(url: str) -> bool:
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=PROBE_TIMEOUT_S)
    try:
        connection.request("GET", where.path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
