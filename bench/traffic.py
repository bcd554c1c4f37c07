"""Jobs into a queue and their answers out of it, by a process of its own.

Four ways to ask: what was filled in is drained; a queue is kept full; jobs come at a rate that no answer can slow down
(an open loop); or one at a time, on an idle system.
"""

import asyncio
import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import uvloop

from bench.requests import Address, Drained, OpenLoop
from bench.source import Source


class Traffic:
    """The process, as the runner sees it. Made by `traffic`."""

    def __init__(self, pipe: "Connection[Any, Any]") -> None:
        self._pipe = pipe

    def fill(self, to: "Address", count: int, *, bodies: int = 0) -> None:
        """Publish jobs and await their confirms.

        Args:
            to: whom.
            count: of jobs.
            bodies: how many different ones; 0 = each job has its own.
        """
        self._ask("fill", to, count, bodies)

    def keep(self, seconds: float) -> None:
        """Begin to publish a job for each answer, for so long; `answers` returns them, `fill` says how many wait."""
        self._pipe.send(("keep", seconds))

    def expect(self, count: int, timeout_s: float) -> None:
        """Begin to wait for answers to what was filled in; `answers` returns them."""
        self._pipe.send(("drain", count, timeout_s))

    def answers(self, wait_s: float) -> Drained | None:
        """What was expected, or None if it has not all come within `wait_s`."""
        return self._read() if self._pipe.poll(wait_s) else None

    def open_loop(self, to: "Address", rate: float, seconds: float, connections: int) -> OpenLoop:
        """Publish at a steady rate over many connections, each with its own phase; then wait for the last answers."""
        return self._ask("open_loop", to, rate, seconds, connections)  # type: ignore[no-any-return]

    def lone(self, to: "Address", count: int) -> list[float]:
        """Latencies of jobs that are alone, seconds from publish to answer; fewer if one is not answered."""
        return self._ask("lone", to, count)  # type: ignore[no-any-return]

    def _ask(self, *words: Any) -> Any:
        self._pipe.send(words)
        return self._read()

    def _read(self) -> Any:
        answer = self._pipe.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer


@contextmanager
def traffic(url: str) -> Iterator[Traffic]:
    """Run the process as long as the block does.

    Args:
        url: of the broker.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_main, args=(url, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Traffic(ours)
    finally:
        process.terminate()
        process.join()


def _main(url: str, pipe: "Connection[Any, Any]") -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # A Ctrl-C is the runner's, which ends this process.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        source = Source(url)
        while True:
            try:
                word, *arguments = pipe.recv()
            except EOFError:
                return
            try:
                pipe.send(runner.run(getattr(source, word)(*arguments)))
            except Exception as error:
                pipe.send(RuntimeError(f"the load generator failed at {word}: {error!r}"))
