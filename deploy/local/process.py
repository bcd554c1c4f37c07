"""Child processes that end with us: stopped by pid, and killed by the kernel if we die first."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from deploy.local.errors import LocalStackError, StartFailed

TAIL_LINES = 60
"""RabbitMQ says why it cannot boot some fifty lines before its last."""
POLL_S = 0.05

_launcher = ThreadPoolExecutor(max_workers=1, thread_name_prefix="deploy.local.launcher")
"""PR_SET_PDEATHSIG fires when the *thread* that forked ends (prctl(2)): one thread that lasts forks everything."""


class OwnedProcess:
    """A command with its environment and its log, which can be started again after it ended.

    It leads its own session: a Ctrl-C in the terminal reaches us, and we decide in which order things stop.
    """

    def __init__(self, name: str, argv: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        self._argv = [*_tied_to_parent(), *argv]
        self._env = dict(env)
        self._popen: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Fork and return at once; readiness is the caller's to await (`wait_ready`).

        Raises:
            LocalStackError: It runs already.
        """
        if self.running:
            raise LocalStackError(f"{self.name} runs already (pid {self.pid}); stop it first")
        self._popen = _launcher.submit(self._fork).result()

    def _fork(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self._argv, env=self._env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def running(self) -> bool:
        """Whether the process exists and has not ended; a paused one runs."""
        return self._popen is not None and self._popen.poll() is None

    @property
    def pid(self) -> int:
        """Its process id, also after it ended."""
        return self._started().pid

    @property
    def returncode(self) -> int | None:
        """How it ended (negative: by that signal), or None while it runs."""
        return self._started().poll()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process itself; one that has ended is left in peace."""
        self._started().send_signal(number)

    def wait(self, timeout: float) -> int:
        """Wait for the end and return the exit code.

        Raises:
            LocalStackError: It still runs after `timeout` seconds.
        """
        try:
            return self._started().wait(timeout)
        except subprocess.TimeoutExpired:
            raise LocalStackError(
                f"{self.name} (pid {self.pid}) still runs after {timeout:g} s\n{self.log_tail()}"
            ) from None

    def kill(self) -> None:
        """SIGKILL, and wait: when this returns the process is gone."""
        self.signal(signal.SIGKILL)
        self._started().wait()

    def stop(self, timeout: float = 10.0) -> None:
        """SIGTERM, a bounded wait, then SIGKILL for it and whatever it started; harmless when it has ended."""
        if self._popen is None:
            return
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(timeout)
        with suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()

    def pause(self) -> None:
        """SIGSTOP: sockets stay open, nothing answers."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    def wait_ready(self, probe: Callable[[], bool], timeout: float, what: str) -> None:
        """Poll until `probe` holds.

        Raises:
            StartFailed: The process ended first, or `timeout` seconds passed. The message carries the log's tail.
        """
        deadline = time.monotonic() + timeout
        while not probe():
            if not self.running:
                raise StartFailed(f"{self.name} ended with code {self.returncode} before {what}\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise StartFailed(f"{self.name}: no {what} within {timeout:g} s\n{self.log_tail()}")
            time.sleep(POLL_S)

    def log_tail(self, lines: int = TAIL_LINES) -> str:
        """Return the last lines of the log, headed by its name."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join([f"--- last lines of {self.log.name} ---", *text.splitlines()[-lines:]])

    def _started(self) -> subprocess.Popen[bytes]:
        if self._popen is None:
            raise LocalStackError(f"{self.name} was never started; call start() first")
        return self._popen


def _tied_to_parent() -> list[str]:
    """Return the command prefix that has the kernel kill the child with us; empty where util-linux is absent."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
