"""What is measured: programs that take jobs from a queue and end them, each started and stopped the same way."""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, Literal

from bench.peers import Peer, PeerUnavailable, RunSettings
from bench.peers.outcomes import READY
from bench.place import Place, routing_key
from bench.requests import Address
from bench.workloads import Workload
from deploy.local import StartFailed
from deploy.local.process import OwnedProcess
from schemas.events import EXCHANGE as EVENTS
from worker.config import Settings

MAX_BATCH: Final = 32
WINDOW_MS: Final = 5.0
READY_TIMEOUT_S: Final = 120.0
STOP_TIMEOUT_S: Final = 15.0
_POLL_S: Final = 0.2

Kind = Literal["worker", "script", "floor", "queue", "serving"]


@dataclass(frozen=True, slots=True)
class Program:
    """A process of a subject.

    Attributes:
        argv: its command line.
        env: variables on top of ours.
        says: a line it prints when the next process may start; empty = it prints none.
    """

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    says: str = ""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a subject is told.

    Attributes:
        queue: to consume from.
        max_batch: jobs it may compute together.
        cache: whether it may remember outputs.
        processes: how many of it.
    """

    place: Place
    workload: Workload
    queue: str
    max_batch: int = MAX_BATCH
    cache: bool = False
    processes: int = 1

    def environment(self) -> dict[str, str]:
        """The same as variables, as the script and the peers read them."""
        return {
            "AMQP_URL": self.place.amqp_url,
            "REDIS_URL": self.place.stack.store.url,
            "QUEUE": self.queue,
            "EVENTS_EXCHANGE": EVENTS,
            "MODEL": str(self.place.model(self.workload).resolve()),
            "MAX_BATCH": str(self.max_batch),
            "WINDOW_MS": str(WINDOW_MS),
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
        }


@dataclass(frozen=True, slots=True)
class Subject:
    """Something that can be measured.

    Attributes:
        settings: for the report: what was chosen for it, and why it is fair.
        programs: its processes under given conditions.
    """

    name: str
    kind: Kind
    settings: Mapping[str, str]
    programs: Callable[[Conditions], Sequence[Program]]


class Running:
    """A subject at work. Made by `running`."""

    def __init__(self, subject: Subject, conditions: Conditions, processes: Sequence[OwnedProcess]) -> None:
        self.subject = subject
        self.conditions = conditions
        self._processes = processes

    @property
    def pids(self) -> list[int]:
        """Its processes, without their children."""
        return [process.pid for process in self._processes]

    @property
    def address(self) -> Address:
        """Where its jobs go."""
        peer = self.subject.name if self.subject.kind in {"queue", "serving"} else ""
        return Address(self.conditions.queue, self.conditions.workload.name, peer)

    def check(self) -> None:
        """Raise if one of its processes has ended.

        Raises:
            StartFailed: with the end of its log.
        """
        for process in self._processes:
            if not process.running:
                raise StartFailed(f"{process.name} ended with code {process.returncode}\n{process.log_tail(20)}")


@contextmanager
def running(subject: Subject, conditions: Conditions) -> Iterator[Running]:
    """Start a subject and wait until it consumes; nothing of it is left when the block ends.

    Raises:
        StartFailed: it ended, or did not consume in time; with the end of its log.
    """
    conditions.place.declare(conditions.queue)
    with tempfile.TemporaryDirectory(prefix="heimdall-bench-") as logs:
        programs = subject.programs(conditions)
        processes = [
            OwnedProcess(
                f"{subject.name}-{number}", program.argv, {**os.environ, **program.env}, Path(logs, f"{number}.log")
            )
            for number, program in enumerate(programs)
        ]
        it = Running(subject, conditions, processes)
        try:
            for process, program in zip(processes, programs, strict=True):
                process.start()
                if program.says:
                    said = partial(_said, process.log, program.says)
                    process.wait_ready(said, READY_TIMEOUT_S, f"line `{program.says}`")
            _await_consumers(it)
            yield it
        finally:
            for process in reversed(processes):
                process.stop(STOP_TIMEOUT_S)


def _said(log: Path, line: str) -> bool:
    return line in log.read_text(errors="replace").splitlines()


def _await_consumers(it: Running) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while it.conditions.place.consumers(it.address.queue) < it.conditions.processes:
        it.check()
        if time.monotonic() > deadline:
            raise StartFailed(f"{it.subject.name} does not consume from {it.address.queue} after {READY_TIMEOUT_S:g} s")
        time.sleep(_POLL_S)


def _worker(conditions: Conditions) -> list[Program]:
    place = conditions.place
    place.model(conditions.workload)
    settings = {
        "HEIMDALL_MODEL_NAME": conditions.workload.name,
        "HEIMDALL_QUEUE": conditions.queue,
        "HEIMDALL_ROUTING_KEY": routing_key(conditions.queue),
        "HEIMDALL_MAX_BATCH_SIZE": str(conditions.max_batch),
        "HEIMDALL_CACHE_ENABLED": str(conditions.cache).lower(),
        "HEIMDALL_HTTP_PORT": "0",
    }
    return [
        Program(
            [sys.executable, "-m", "worker"],
            place.stack.worker_env() | settings | {"HEIMDALL_INSTANCE": f"{routing_key(conditions.queue)}-{number}"},
        )
        for number in range(conditions.processes)
    ]


def _module(name: str) -> Callable[[Conditions], list[Program]]:
    return lambda conditions: [Program([sys.executable, "-m", name], conditions.environment())] * conditions.processes


HEIMDALL: Final = Subject(
    "heimdall",
    "worker",
    {
        "as": "python -m worker, its usual settings, one process",
        "cache": "off, but where hits are measured",
        **{name: str(Settings.model_fields[name].default) for name in ("max_batch_size", "prefetch_count", "eager")},
    },
    _worker,
)
PLAIN_SCRIPT: Final = Subject(
    "plain_script",
    "script",
    {
        "max_batch": str(MAX_BATCH),
        "prefetch": str(4 * MAX_BATCH),
        "loop": "uvloop",
        "compute": "on the event loop: measured, a thread for it costs 10 % more processor time per job",
    },
    _module("bench.plain_script"),
)


def floor_amqp(reply: Path) -> Subject:
    """The AMQP floor; `reply` holds the bytes that it answers every job with."""

    def programs(conditions: Conditions) -> list[Program]:
        return [Program([sys.executable, "-m", "bench.floor_amqp"], conditions.environment() | {"REPLY": str(reply)})]

    return Subject("floor_amqp", "floor", {"max_batch": str(MAX_BATCH), "prefetch": str(4 * MAX_BATCH)}, programs)


def peer_subject(peer: Peer) -> Subject:
    """A peer as a subject; its environment is made when it is first started."""

    def programs(conditions: Conditions) -> list[Program]:
        place = conditions.place
        try:
            peer.install()
        except PeerUnavailable as error:
            raise StartFailed(f"{peer.name} cannot be installed: {error}") from error
        settings = RunSettings(
            amqp_url=place.amqp_url,
            redis_url=place.stack.store.url,
            queue=conditions.queue,
            events_exchange=EVENTS,
            model=place.model(conditions.workload),
            max_batch=conditions.max_batch,
            window_ms=WINDOW_MS,
        )
        return [Program(command.argv, command.env, READY) for command in peer.commands(settings)]

    return Subject(peer.name, peer.kind, peer.settings, programs)
