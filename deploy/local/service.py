"""A program of ours as a child process: environment in, log file out, ready when its health endpoint says so."""

import http.client
import os
import signal
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from deploy.local.ports import PortLease
from deploy.local.process import OwnedProcess

READY_TIMEOUT_S = 60.0
PROBE_TIMEOUT_S = 2.0


class ServiceProcess:
    """Starts a command such as `[sys.executable, "-m", "worker"]` with its HTTP server on a port of its own.

    The port stays the same over restarts, so that a killed worker can be started again as the same instance.
    Its environment is ours plus `env` plus the port under the name `port_variable`.

    Args:
        argv: The command.
        env: Variables on top of our own environment.
        port_variable: The variable through which the program learns its HTTP port.
        log: Where stdout and stderr go; default: a file of its own, removed by `close`.
        name: What messages call it.
    """

    def __init__(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        port_variable: str = "HEIMDALL_HTTP_PORT",
        log: Path | None = None,
        name: str = "worker",
    ) -> None:
        self._lease = PortLease.take()
        self._own_log = log is None
        self.log = log or _temporary_log(name)
        self.http_url = f"http://127.0.0.1:{self._lease.port}"
        full = {**os.environ, **env, port_variable: str(self._lease.port)}
        self._process = OwnedProcess(name, argv, full, self.log)

    def __enter__(self) -> Self:
        """Start and wait until ready; whatever fails, nothing is left running."""
        try:
            self.start()
            self.wait_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The process, another one after a restart."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it exists and has not ended."""
        return self._process.running

    @property
    def returncode(self) -> int | None:
        """How it ended, or None while it runs."""
        return self._process.returncode

    def start(self) -> None:
        """Start it and return at once; also after it ended, appending to the same log."""
        self._process.start()

    def wait_ready(self, timeout: float = READY_TIMEOUT_S, path: str = "/health/ready") -> None:
        """Wait until `path` answers 200.

        Raises:
            StartFailed: It ended first, or did not within `timeout` seconds; the message carries the log's tail.
        """
        self._process.wait_ready(lambda: self._answers(path), timeout, f"200 from {self.http_url}{path}")

    def terminate(self) -> None:
        """SIGTERM; returns at once."""
        self._process.resume()
        self._process.signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to this process alone, and wait for its end."""
        self._process.kill()

    def pause(self) -> None:
        """SIGSTOP."""
        self._process.pause()

    def resume(self) -> None:
        """SIGCONT."""
        self._process.resume()

    def wait(self, timeout: float) -> int:
        """Wait for the end and return the exit code; negative is the signal that ended it.

        Raises:
            LocalStackError: It still runs after `timeout` seconds.
        """
        return self._process.wait(timeout)

    def log_text(self) -> str:
        """Return everything it has printed so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def close(self, timeout: float = 30.0) -> None:
        """SIGTERM, wait, SIGKILL for it and its children, give the port back; harmless when repeated."""
        self._process.stop(timeout)
        self._lease.release()
        if self._own_log:
            self.log.unlink(missing_ok=True)

    def _answers(self, path: str) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._lease.port, timeout=PROBE_TIMEOUT_S)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def _temporary_log(name: str) -> Path:
    handle, path = tempfile.mkstemp(prefix=f"heimdall-{name}-", suffix=".log")
    os.close(handle)
    return Path(path)
