"""One input under limits of time and memory, and what is said of it when it breaks one."""

import resource
import signal
import traceback
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final, Literal

from bench.fuzz.target import Target

CPU_S: Final = 0.3
"""Processor time that any input may take; time on the wall says more of the machine than of the input."""
CPU_S_PER_BYTE: Final = 1e-6
PEAK_BYTES: Final = 8 * 1024 * 1024
"""Memory that any input may take while it is read."""
PEAK_PER_BYTE: Final = 100
"""A list of Python numbers takes some 25 bytes for each byte of JSON."""
ADDRESS_SPACE_BYTES: Final = 1024 * 1024 * 1024
"""What a fuzzing process may map beyond what it has when it starts."""
ATTEMPTS: Final = 3
"""An input is too slow, or too large, when it is so each time: a collection of garbage may fall into one of them."""
_SHOWN_FRAMES: Final = 3


@dataclass(frozen=True, slots=True)
class Failure:
    """An input that a target did not stand.

    Attributes:
        kind: `crash`: another error than those promised, or a wrong answer; `hang`: too slow; `memory`: too much of it.
        target: name.
        data: the input.
        said: the error and where it was raised, in one line.
    """

    kind: Literal["crash", "hang", "memory"]
    target: str
    data: bytes
    said: str


class TooSlow(BaseException):
    """The input took more processor time than it may. No `Exception`: a reader that catches those must not see it."""


def attempt(target: Target, data: bytes, *, measure: bool) -> str | Failure:
    """Run one input.

    Args:
        target: that reads it.
        data: the input.
        measure: trace its memory too, which makes it several times slower, so its time is not judged.

    Returns:
        The target's verdict, or what went wrong.
    """
    try:
        if measure:
            return _measured(target, data)
        for _ in range(ATTEMPTS):
            try:
                with processor_time(CPU_S + CPU_S_PER_BYTE * len(data)):
                    return target.run(data)
            except TooSlow as slow:
                said = _said(slow)
    except Exception as error:  # Anything at all is a finding: that is the point.
        return Failure("crash", target.name, data, _said(error))
    return Failure("hang", target.name, data, said)


@contextmanager
def processor_time(seconds: float) -> Iterator[None]:
    """Raise `TooSlow` in the main thread when the block takes more processor time."""
    before = signal.signal(signal.SIGPROF, _too_slow)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, before)


def confine() -> None:
    """Bound the address space of this process: what asks for more gets a MemoryError, which is a crash."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    mapped = pages * resource.getpagesize() + ADDRESS_SPACE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (mapped, mapped))


def _measured(target: Target, data: bytes) -> str | Failure:
    most = PEAK_BYTES + PEAK_PER_BYTE * len(data)
    peaks = []
    for _ in range(ATTEMPTS):
        tracemalloc.start()
        try:
            verdict = target.run(data)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        if peaks[-1] <= most:
            return verdict
    return Failure("memory", target.name, data, f"{min(peaks)} bytes at its peak; {most} are allowed")


def _too_slow(_signal: int, _frame: FrameType | None) -> None:
    raise TooSlow("too much processor time")


def _said(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)[-_SHOWN_FRAMES:]
    where = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]} ({where})"
