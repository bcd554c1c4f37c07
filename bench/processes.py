"""Processor time of other processes, to the nanosecond, and pausing those that talk to the broker."""

import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

import psutil

_REST_S: Final = 0.25
_AT_REST: Final = 0.05
"""Of a core."""
_SCHEDULED: Final = 2
"""CPUCLOCK_SCHED of clock_getcpuclockid(3): user and system time of all threads of a process, ended ones included."""


def cpu_s(pid: int) -> float:
    """Processor time a process has used, seconds; 0 for one that has ended."""
    try:
        return time.clock_gettime((~pid << 3) | _SCHEDULED)
    except OSError:
        return 0.0


def tree(roots: Iterable[int]) -> list[int]:
    """These processes and all that descend from them."""
    found: list[int] = []
    for root in roots:
        with suppress(psutil.NoSuchProcess):
            found += [root, *(child.pid for child in psutil.Process(root).children(recursive=True))]
    return found


def named(name: str) -> list[int]:
    """Our own descendants that run a program of this name."""
    own = psutil.Process(os.getpid()).children(recursive=True)
    return [process.pid for process in own if process.name() == name]


class Meter:
    """Processor time of some processes together, from here on.

    A process that appears later is counted from its start, one that ends keeps what it had when last read.

    Args:
        roots: whose trees are read.
    """

    def __init__(self, roots: Iterable[int]) -> None:
        self._roots = list(roots)
        self._pids = tree(self._roots)
        self._last = {pid: cpu_s(pid) for pid in self._pids}
        self._before = sum(self._last.values())

    def read(self, *, again: bool = False) -> float:
        """Seconds since the meter was made.

        Args:
            again: look for new processes; this walks the whole process table.
        """
        if again:
            self._pids = tree(self._roots)
        for pid in self._pids:
            self._last[pid] = max(self._last.get(pid, 0.0), cpu_s(pid))
        return sum(self._last.values()) - self._before


def await_rest(roots: Iterable[int], most_s: float) -> None:
    """Wait until these processes and their descendants do next to nothing.

    Args:
        roots: none are at rest at once.
        most_s: seconds after which their rest is awaited no longer.
    """
    meter, ends = Meter(roots), time.monotonic() + most_s
    before = meter.read()
    while time.monotonic() < ends:
        time.sleep(_REST_S)
        now = meter.read(again=True)
        if now - before < _AT_REST * _REST_S:
            return
        before = now


def memory_bytes(roots: Iterable[int]) -> int:
    """Resident memory of these processes and their descendants; what they share is counted in each."""
    total = 0
    for pid in tree(roots):
        with suppress(psutil.NoSuchProcess):
            total += psutil.Process(pid).memory_info().rss
    return total


@contextmanager
def paused(roots: Iterable[int], port: int) -> Iterator[None]:
    """Stop, for the length of the block, those processes of the trees that hold a connection to a port.

    Keep it shorter than the heartbeats of what is stopped.
    """
    stopped = [pid for pid in tree(roots) if _talks_to(pid, port)]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _talks_to(pid: int, port: int) -> bool:
    try:
        connections = psutil.Process(pid).net_connections(kind="tcp")
    except psutil.Error:
        return False
    return any(c.raddr and c.raddr.port == port and c.status == psutil.CONN_ESTABLISHED for c in connections)
