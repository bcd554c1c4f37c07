"""The workers of a scenario, and who starts them again when they die."""

import http.client
import json
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import psutil
from prometheus_client.parser import text_string_to_metric_families

from deploy.local import LocalStackError, ServiceProcess

ROOT: Final = Path(__file__).resolve().parents[2]
INJECTED: Final = Path(__file__).resolve().parent / "injected"
WORKER: Final = (sys.executable, "-m", "worker")
READY_S: Final = 120.0
_POLL_S: Final = 0.1
_PAGE_TIMEOUT_S: Final = 3.0


class Worker:
    """One worker, its restarts included; a supervisor starts it again whenever it ends unasked."""

    def __init__(self, process: ServiceProcess, instance: str) -> None:
        self.process = process
        self.instance = instance
        """Its name for commands."""
        self.codes: list[int] = []
        """How it ended, each time."""
        self.watched = True
        """Whether it is to be started again."""

    def kill(self) -> None:
        """SIGKILL; the supervisor starts it again."""
        self.process.kill()

    def end(self, timeout: float) -> int:
        """SIGTERM, and wait for the exit code; it is not started again by itself.

        Raises:
            LocalStackError: it still runs after that time.
        """
        self.watched = False
        self.process.terminate()
        return self.process.wait(timeout)

    def begin(self) -> None:
        """Start it again after `end`."""
        self.process.start()
        self.watched = True

    def pause(self) -> None:
        """SIGSTOP."""
        self.process.pause()

    def resume(self) -> None:
        """SIGCONT."""
        self.process.resume()

    def ready(self) -> bool:
        """Whether it takes jobs."""
        return self.page("/health/ready")[0] == 200

    def page(self, path: str) -> tuple[int, str]:
        """Status and body of a page; status 0 where nothing answers."""
        where = urlsplit(self.process.http_url)
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=_PAGE_TIMEOUT_S)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException):
            return 0, ""
        finally:
            connection.close()

    def metric(self, name: str, **labels: str) -> float:
        """Sum of the samples of that name whose labels agree; 0 where nothing answers."""
        families = text_string_to_metric_families(self.page("/metrics")[1])
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    def buckets(self, name: str, **labels: str) -> dict[float, float]:
        """A histogram of one set of labels, at one instant: cumulative count by upper bound."""
        families = text_string_to_metric_families(self.page("/metrics")[1])
        samples = [sample for family in families for sample in family.samples if sample.name == f"{name}_bucket"]
        return {float(s.labels["le"]): s.value for s in samples if labels.items() <= s.labels.items()}

    def events(self, name: str) -> list[dict[str, Any]]:
        """Lines of its log with that event name."""
        lines = [line for line in self.process.log_text().splitlines() if f'"{name}"' in line]
        found = [json.loads(line) for line in lines if line.startswith("{")]
        return [line for line in found if line.get("event") == name]

    @property
    def system(self) -> psutil.Process:
        """The process as the operating system sees it."""
        return psutil.Process(self.process.pid)


class Fleet:
    """Workers that are supervised until `close`.

    Args:
        environments: one per worker.
        argv: the command.
    """

    def __init__(self, environments: Sequence[Mapping[str, str]], argv: Sequence[str] = WORKER) -> None:
        paths = {"PYTHONPATH": f"{INJECTED}:{ROOT}"}
        self.workers = [
            Worker(ServiceProcess(argv, {**env, **paths}), env["HEIMDALL_INSTANCE"]) for env in environments
        ]
        self._over = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor", daemon=True)

    def start(self, *, wait: bool = True) -> None:
        """Start all at once; wait until each is ready."""
        for worker in self.workers:
            worker.process.start()
        self._supervisor.start()
        if wait:
            for worker in self.workers:
                worker.process.wait_ready(READY_S)

    def drain(self, timeout: float) -> list[int | None]:
        """SIGTERM to all; exit codes, None for one that had to be killed."""
        self._over.set()
        for worker in self.workers:
            worker.watched = False
            if worker.process.running:
                worker.process.terminate()
        return [_ended(worker, timeout) for worker in self.workers]

    def close(self) -> None:
        """Stop all, at once."""
        self._over.set()
        if self._supervisor.is_alive():
            self._supervisor.join()
        for worker in self.workers:
            worker.process.close(timeout=1.0)

    @property
    def deaths(self) -> list[int]:
        """Exit codes of those that ended unasked."""
        return [code for worker in self.workers for code in worker.codes]

    def _supervise(self) -> None:
        while not self._over.wait(_POLL_S):
            for worker in self.workers:
                if worker.watched and not worker.process.running:
                    worker.codes.append(worker.process.returncode or 0)
                    worker.process.start()


class Pausable(Protocol):
    """Something that SIGSTOP freezes."""

    def pause(self) -> None:
        """SIGSTOP."""

    def resume(self) -> None:
        """SIGCONT."""


@contextmanager
def stopped(it: Pausable) -> Iterator[None]:
    """SIGSTOP for as long as the block runs."""
    it.pause()
    try:
        yield
    finally:
        it.resume()


def wait_for(condition: Any, timeout: float, poll: float = _POLL_S) -> float | None:
    """Seconds until the condition held, or None if it did not in time."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > timeout:
            return None
        time.sleep(poll)
    return time.monotonic() - began


def _ended(worker: Worker, timeout: float) -> int | None:
    try:
        return worker.process.wait(timeout)
    except LocalStackError:
        worker.process.kill()
        return None
