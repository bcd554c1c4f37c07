"""What the fault suite changes inside a worker's process, at its start and without a word in the worker's code.

Everything hangs on the borders to the libraries, not on the worker's own functions: the run of ONNX Runtime, what Redis
answers, what is read from and written to a socket.
"""

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench.chaos import frames

ITEMS: Final = "HEIMDALL_CHAOS_ITEMS"
"""File to which the number of inferred job items is appended after each run of the model."""
ARMED: Final = "HEIMDALL_CHAOS_ARMED"
"""File that names, once it is there, the point at which the process dies; it is removed first."""
DEADLY: Final = "HEIMDALL_CHAOS_DEADLY"
"""Mean log-mel above which a run of the model kills the process, as faulty native code would."""
TASKS: Final = "HEIMDALL_CHAOS_TASKS"
"""File to which the number of asyncio tasks is appended every second."""
CLOCK: Final = "HEIMDALL_CHAOS_CLOCK"
"""File with the seconds by which the wall clock is ahead; read again and again. The monotonic clock stays, as when a
clock is set."""
BROKEN: Final = "HEIMDALL_CHAOS_BROKEN"
"""`ack-first`: jobs are acknowledged as they are delivered, before anything is stored."""
ACK_FIRST: Final = "ack-first"

_ACK_FLUSHED_S: Final = 0.05
_CLOCK_READ_S: Final = 0.2
_NS_PER_S: Final = 1_000_000_000
_QUEUE: Final = "heimdall.inference"
_STORE: Final = b"heimdall:result:"
_ONLY_NEW: Final = b"$2\r\nNX\r\n"
_SCRIPTS: Final = (b"\r\nEVALSHA\r\n", b"\r\nEVAL\r\n")

Feed = Mapping[str, Any]


class Point(StrEnum):
    """Where between receiving a job and acknowledging it the process dies, in the order of events."""

    RECEIVED = "received"
    INFERRED = "inferred"
    STORED = "stored"
    REPLIED = "replied"
    CONFIRMED = "confirmed"
    ACKNOWLEDGED = "acknowledged"


class Death:
    """Ends the process by SIGKILL at the point that a file names, once.

    Args:
        armed: the file; whoever removes it dies, so of several workers one.
    """

    def __init__(self, armed: str) -> None:
        self._armed = Path(armed)

    def at(self, point: Point) -> None:
        """Die if this is the point and the time."""
        with suppress(FileNotFoundError):
            if self._armed.read_text() == point:
                self._armed.unlink()
                os.kill(os.getpid(), signal.SIGKILL)


def arm(armed: Path, point: Point) -> None:
    """Let the worker that was started with this file die at a point."""
    draft = armed.with_suffix(".draft")
    draft.write_text(point)
    draft.replace(armed)


def install(environ: Mapping[str, str]) -> None:
    """Change what the environment asks for, in a worker; not in the child in which a model proves itself."""
    if "worker" not in sys.orig_argv:
        return
    death = Death(environ.get(ARMED) or os.devnull)
    if environ.get(CLOCK):
        _shift_clock(Path(environ[CLOCK]))
    if environ.get(ITEMS):
        _watch_runs(environ[ITEMS], death, float(environ.get(DEADLY, "inf")))
    if environ.get(ARMED):
        _watch_store(death)
        _watch_sockets(death)
    if environ.get(BROKEN) == ACK_FIRST:
        _acknowledge_at_once()
    if environ.get(TASKS):
        _count_tasks(Path(environ[TASKS]))


def job_items(feed: Feed) -> int:
    """How many rows of a run are jobs: they alone have exactly one receiver; golden vectors have two, warm-up none."""
    return int((feed["mask"].sum(axis=1) == 1).sum())


def _watch_runs(path: str, death: Death, deadly_above: float) -> None:
    from onnxruntime import InferenceSession  # noqa: PLC0415 - only in a worker

    run = InferenceSession.run
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def watched(self: Any, names: Any, feed: Feed, *rest: Any) -> Any:
        items = job_items(feed)
        if not items:
            return run(self, names, feed, *rest)
        if feed["mel"].mean(axis=(1, 2, 3)).max() > deadly_above:
            os.kill(os.getpid(), signal.SIGKILL)
        death.at(Point.RECEIVED)
        answers = run(self, names, feed, *rest)
        os.write(file, b"%d\n" % items)  # One write of a file that is opened to append: kept whatever comes.
        death.at(Point.INFERRED)
        return answers

    InferenceSession.run = watched


def _watch_store(death: Death) -> None:
    from redis.asyncio.connection import AbstractConnection  # noqa: PLC0415 - only in a worker

    send, read = AbstractConnection.send_packed_command, AbstractConnection.read_response
    awaited: dict[int, int] = {}

    async def sending(self: Any, command: Any, *rest: Any, **options: Any) -> None:
        awaited[id(self)] = store_answers(command)
        await send(self, command, *rest, **options)

    async def reading(self: Any, *rest: Any, **options: Any) -> Any:
        answer = await read(self, *rest, **options)
        if awaited.get(id(self)):
            awaited[id(self)] -= 1
            if not awaited[id(self)]:
                death.at(Point.STORED)
        return answer

    AbstractConnection.send_packed_command = sending  # type: ignore[method-assign]
    AbstractConnection.read_response = reading  # type: ignore[method-assign]


def store_answers(command: bytes | Iterable[bytes]) -> int:
    """How many answers a packed command has that say an outcome is stored: of each SET NX, or of one script."""
    packed = command if isinstance(command, bytes) else b"".join(command)
    if _STORE not in packed:
        return 0
    return packed.count(_ONLY_NEW) or any(script in packed for script in _SCRIPTS)


def _watch_sockets(death: Death) -> None:
    write, receive = asyncio.StreamWriter.write, asyncio.StreamReaderProtocol.data_received

    def writing(self: asyncio.StreamWriter, data: bytes) -> None:
        acknowledges = frames.holds(bytes(data), frames.ACK)
        if acknowledges:
            death.at(Point.CONFIRMED)
        write(self, data)
        if acknowledges:
            asyncio.get_running_loop().call_later(_ACK_FLUSHED_S, partial(death.at, Point.ACKNOWLEDGED))

    def receiving(self: asyncio.StreamReaderProtocol, data: bytes) -> None:
        if frames.holds(bytes(data), frames.ACK):  # From the broker: a confirm.
            death.at(Point.REPLIED)
        receive(self, data)

    asyncio.StreamWriter.write = writing  # type: ignore[method-assign,assignment]
    asyncio.StreamReaderProtocol.data_received = receiving  # type: ignore[method-assign,assignment]


def _acknowledge_at_once() -> None:
    write = asyncio.StreamWriter.write

    def writing(self: asyncio.StreamWriter, data: bytes) -> None:
        if changed := frames.acknowledging_at_once(bytes(data), _QUEUE):
            write(self, changed)

    asyncio.StreamWriter.write = writing  # type: ignore[method-assign,assignment]


def _shift_clock(path: Path) -> None:
    """Before anything is imported that would keep a reference to the true clock."""
    now, now_ns = time.time, time.time_ns
    ahead_s = [0]

    def follow() -> None:
        while True:
            with suppress(OSError, ValueError):
                ahead_s[0] = int(path.read_text())
            time.sleep(_CLOCK_READ_S)

    time.time = lambda: now() + ahead_s[0]
    time.time_ns = lambda: now_ns() + ahead_s[0] * _NS_PER_S
    threading.Thread(target=follow, name="clock", daemon=True).start()


def _count_tasks(path: Path) -> None:
    import uvloop  # noqa: PLC0415 - only in a worker

    new_event_loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop

    def watched() -> asyncio.AbstractEventLoop:
        loop = new_event_loop()
        threading.Thread(target=_note_tasks, args=(loop, path), daemon=True).start()
        return loop

    uvloop.new_event_loop = watched  # type: ignore[assignment]


def _note_tasks(loop: asyncio.AbstractEventLoop, path: Path) -> None:
    while True:
        time.sleep(1.0)
        with path.open("a") as file:
            file.write(f"{len(asyncio.all_tasks(loop))}\n")
