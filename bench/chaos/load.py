"""The load: publishes jobs at a steady rate, takes every reply and event, and writes everything down.

`python -m bench.chaos.load …`, a process of its own. It is a careful publisher: what was not confirmed, for whatever
reason, is published again under the same id, until it is. SIGUSR1: publish no more jobs. SIGTERM: end.
"""

import argparse
import asyncio
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiormq
from aiormq.abc import AbstractChannel, DeliveredMessage
from aiormq.exceptions import DeliveryError
from pamqp import commands as spec

from bench.chaos.jobs import Bodies, number_of, stamp
from bench.chaos.journal import Journal
from bench.chaos.recorder import LOST, REPLIES, STEP_TIMEOUT_S, USER, Recorder
from schemas.job import EXCHANGE, ROUTING_KEY, SIGMF_CONTENT_TYPE

DIRECT: Final = "amq.rabbitmq.reply-to"
MISSING: Final = "amq.gen-nobody-has-this-queue"
_HEARTBEAT_S: Final = 5
_CONFIRM_TIMEOUT_S: Final = 15.0
_PAUSE_S: Final = 0.2
_POLL_S: Final = 0.05
_STUCK_S: Final = 3.0
"""Without one confirm while publishes fail: the connection is given up, as any publisher should."""
_FLUSH_S: Final = 0.1
_UNCONFIRMED: Final = 500
"""Publishes that may wait for their confirms at once."""


@dataclass(frozen=True)
class Options:
    """What is published.

    Attributes:
        url: of the broker.
        directory: of the journal.
        rate: jobs per second; what the broker does not take in time comes later, as fast as it can.
        prefix: of the job ids.
        queue_type: of the queues that the load reads.
        most: jobs; 0 = until told to stop.
        loud: number of the one job that is far louder than any other; -1 = none.
        no_reply_queue: share of the jobs that name a reply queue that does not exist.
        direct: reply to this process alone, which does not wait for it; nothing is recorded.
    """

    url: str
    directory: Path
    bodies: Bodies
    rate: float
    prefix: str
    queue_type: str = "classic"
    most: int = 0
    loud: int = -1
    no_reply_queue: float = 0.0
    direct: bool = False


class Load:
    """Both halves, each on a connection of its own: a broker in alarm stops publishers, and replies must still come.

    Args:
        options: of the run.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._journal = Journal(options.directory)
        self._bases = options.bodies.raw()
        self._loud = options.bodies.raw_loud()
        self._channel: AbstractChannel | None = None
        self._stopping = asyncio.Event()
        self._stuck = asyncio.Event()
        self._confirmed_at = time.monotonic()
        self._publishing: set[asyncio.Task[None]] = set()
        self._window = asyncio.Semaphore(_UNCONFIRMED)

    async def run(self) -> None:
        """Run until SIGTERM."""
        loop = asyncio.get_running_loop()
        end = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, self._stopping.set)
        loop.add_signal_handler(signal.SIGTERM, end.set)
        steps = [self._keep(self._publisher), self._publish_all(), self._flush()]
        if not self._options.direct:
            recorder = Recorder(self._options.bodies, self._options.queue_type, self._journal)
            steps.append(self._keep(recorder.use))
        tasks = [asyncio.create_task(step) for step in steps]
        await end.wait()
        for task in [*tasks, *self._publishing]:
            task.cancel()
        await asyncio.gather(*tasks, *self._publishing, return_exceptions=True)
        self._journal.flush()

    async def _keep(self, use: Any) -> None:
        """Keep a connection open, whatever happens to it."""
        while True:
            with suppress(*LOST):
                url = f"{self._options.url}?heartbeat={_HEARTBEAT_S}"
                connection = await asyncio.wait_for(aiormq.connect(url), STEP_TIMEOUT_S)
                try:
                    await use(connection)
                finally:
                    with suppress(*LOST, asyncio.CancelledError):
                        await asyncio.wait_for(connection.close(), STEP_TIMEOUT_S)
            await asyncio.sleep(_PAUSE_S)

    async def _publisher(self, connection: Any) -> None:
        channel = await asyncio.wait_for(connection.channel(on_return_raises=True), STEP_TIMEOUT_S)
        if self._options.direct:
            await channel.basic_consume(DIRECT, self._ignore, no_ack=True, timeout=STEP_TIMEOUT_S)
        self._stuck.clear()
        self._channel = channel
        waiting = [asyncio.ensure_future(self._stuck.wait()), asyncio.ensure_future(connection.closing)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        waiting[0].cancel()
        self._channel = None

    async def _publish_all(self) -> None:
        number, due = 0, time.monotonic()
        while not self._stopping.is_set() and number != (self._options.most or None):
            await self._window.acquire()
            task = asyncio.create_task(self._publish(number))
            self._publishing.add(task)
            task.add_done_callback(self._published)
            number += 1
            due = max(due + 1.0 / self._options.rate, time.monotonic() - _PAUSE_S)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        while self._publishing:
            await asyncio.wait(set(self._publishing))
        self._journal.done()

    def _published(self, task: asyncio.Task[None]) -> None:
        self._publishing.discard(task)
        self._window.release()

    async def _publish(self, number: int) -> None:
        job_id = f"{self._options.prefix}-{number:07d}"
        base = self._loud if number == self._options.loud else self._bases[number % len(self._bases)]
        body = stamp(base, number)
        self._journal.note("published", job_id, f"{time.monotonic():.6f}")
        while not await self._confirmed(job_id, body):  # noqa: ASYNC110 - no event says when a broker would take it
            await asyncio.sleep(_PAUSE_S)
        self._journal.note("confirmed", job_id, f"{time.monotonic():.6f}")

    async def _confirmed(self, job_id: str, body: bytes) -> bool:
        channel = await self._open_channel()
        try:
            await channel.basic_publish(
                body,
                exchange=EXCHANGE,
                routing_key=ROUTING_KEY,
                properties=self._properties(job_id),
                mandatory=True,
                timeout=_CONFIRM_TIMEOUT_S,
            )
        except DeliveryError:
            self._journal.note("refused", job_id)
            self._give_up_if_stuck(channel)
            return False
        except TimeoutError:
            self._give_up_if_stuck(channel)
            return False
        except LOST:
            return False
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return False  # A silent broker makes the library cancel the wait, though nobody cancelled this task.
        self._confirmed_at = time.monotonic()
        return True

    def _give_up_if_stuck(self, channel: AbstractChannel) -> None:
        """Open another connection where this one takes nothing.

        RabbitMQ 3.10 refuses whatever a channel that was opened during an election publishes to a quorum queue, until
        the leader it remembers is back; a new channel finds the new leader.
        """
        if channel is self._channel and time.monotonic() > self._confirmed_at + _STUCK_S:
            self._confirmed_at = time.monotonic()
            self._stuck.set()

    async def _open_channel(self) -> AbstractChannel:
        while self._channel is None or self._channel.is_closed:  # noqa: ASYNC110 - it closes without a word
            await asyncio.sleep(_POLL_S)
        return self._channel

    def _properties(self, job_id: str) -> spec.Basic.Properties:
        missing = number_of(job_id) % 100 < 100 * self._options.no_reply_queue
        own = DIRECT if self._options.direct else REPLIES
        return spec.Basic.Properties(
            message_id=job_id,
            correlation_id=job_id,
            user_id=USER,
            reply_to=MISSING if missing else own,
            content_type=SIGMF_CONTENT_TYPE,
            delivery_mode=2,
            headers={"sigmf": self._options.bodies.sigmf, "session_id": f"chaos-{number_of(job_id) % 7}"},
        )

    async def _ignore(self, message: DeliveredMessage) -> None:
        pass

    async def _flush(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_S)
            self._journal.flush()


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--bodies", type=Path, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--queue-type", default="classic")
    parser.add_argument("--most", type=int, default=0)
    parser.add_argument("--loud", type=int, default=-1)
    parser.add_argument("--no-reply-queue", type=float, default=0.0)
    parser.add_argument("--direct", type=bool, default=False)
    asked = vars(parser.parse_args(argv))
    asked["bodies"] = Bodies.read(asked["bodies"])
    asyncio.run(Load(Options(**asked)).run())


if __name__ == "__main__":
    main()
