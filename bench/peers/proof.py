"""Whether a peer does what it is measured for: the same outcome as every other, for each job of a small workload."""

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import aio_pika
import orjson
import psutil
import redis
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from bench.peers.outcomes import READY
from bench.peers.peer import Command, Peer, RunSettings
from bench.place import Place, place
from bench.processes import Meter, tree
from bench.recipe import RawJob
from bench.workloads import WORKLOADS
from deploy.local.process import OwnedProcess
from schemas.events import COMPLETE, EXCHANGE
from schemas.result import RESULT_KEY_PREFIX

QUEUE: Final = "heimdall.peer"
REPLY_TO: Final = "amq.rabbitmq.reply-to"
READY_TIMEOUT_S: Final = 180.0
ANSWERS_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 20.0
GONE_TIMEOUT_S: Final = 5.0


class NotEqual(Exception):
    """An outcome that is not what every peer's must be."""


@dataclass
class Seen:
    """What came of the jobs.

    Attributes:
        replies, events: bodies by job id.
        jobs_per_s: from the first answer to the last, of jobs that lay in the queue.
        cpu_ms: processor time of the peer's own processes per job.
    """

    replies: dict[str, bytes] = field(default_factory=dict)
    events: dict[str, bytes] = field(default_factory=dict)
    jobs_per_s: float = 0.0
    cpu_ms: float = 0.0


def prove(peer: Peer, count: int, workload: str = "tiny") -> Seen:
    """Run jobs through a peer, on servers of its own.

    Raises:
        PeerUnavailable: it cannot be installed here.
        LocalStackError: it does not start.
        NotEqual: what it did is not the outcome that is asked for.
    """
    peer.install()
    with place() as where:
        where.declare(QUEUE)
        settings = RunSettings(
            amqp_url=where.amqp_url,
            redis_url=where.stack.store.url,
            queue=QUEUE,
            events_exchange=EXCHANGE,
            model=WORKLOADS[workload].model(),
        )
        with running(peer.commands(settings)) as processes:
            seen = asyncio.run(_load(peer, where.amqp_url, _jobs(workload, count), processes))
        check(seen, where)
    return seen


@contextmanager
def running(commands: Sequence[Command]) -> Iterator[list[OwnedProcess]]:
    """Start processes in their order, each when the one before is ready; nothing of them is left when the block ends.

    Raises:
        StartFailed: one ended, or did not become ready; with the end of its log.
        NotEqual: a process outlived the block.
    """
    with TemporaryDirectory(prefix="heimdall-peer-") as logs, ExitStack() as exits:
        processes: list[OwnedProcess] = []
        started: list[int] = []
        exits.callback(_ended, started)
        for command in commands:
            log = Path(logs, f"{command.name}.log")
            process = OwnedProcess(command.name, command.argv, {**os.environ, **command.env}, log)
            process.start()
            processes.append(process)
            exits.callback(process.stop, STOP_TIMEOUT_S)
            process.wait_ready(partial(_is_ready, log), READY_TIMEOUT_S, f"line `{READY}`")
        exits.callback(lambda: started.extend(tree(process.pid for process in processes)))
        yield processes


def _is_ready(log: Path) -> bool:
    return READY in log.read_text(errors="replace").splitlines()


def _ended(started: Sequence[int]) -> None:
    _, left = psutil.wait_procs(_existing(started), timeout=GONE_TIMEOUT_S)
    if left:
        raise NotEqual(f"processes outlived the peer: {left}")


def _existing(pids: Sequence[int]) -> list[psutil.Process]:
    found = []
    for pid in set(pids):
        with suppress(psutil.NoSuchProcess):
            found.append(psutil.Process(pid))
    return found


def check(seen: Seen, where: Place) -> None:
    """Compare what was stored, replied and told, and look into the queue.

    Raises:
        NotEqual: naming the first difference.
    """
    waiting = where.waiting(QUEUE)
    if waiting:
        raise NotEqual(f"{waiting} jobs were not acknowledged")
    with redis.Redis.from_url(where.stack.store.url) as client:
        for job_id, reply in seen.replies.items():
            if client.get(RESULT_KEY_PREFIX + job_id) != reply:
                raise NotEqual(f"{job_id}: what is stored is not what was replied: {reply[:200]!r}")
            if int(str(client.ttl(RESULT_KEY_PREFIX + job_id))) <= 0:
                raise NotEqual(f"{job_id}: its result is stored for ever")
            told, result = orjson.loads(seen.events[job_id]), orjson.loads(reply)
            if told["event"] != COMPLETE or told["data"] != result or "position" not in result:
                raise NotEqual(f"{job_id}: the event does not tell of the result")


def _jobs(workload: str, count: int) -> list[RawJob]:
    sigmf = WORKLOADS[workload].sigmf()
    bodies = WORKLOADS[workload].make_bodies(min(count, 64))
    return [RawJob(f"proof-{number}", sigmf, bodies[number % len(bodies)]) for number in range(count)]


async def _load(peer: Peer, url: str, jobs: Sequence[RawJob], processes: Sequence[OwnedProcess]) -> Seen:
    seen, done, at = Seen(), asyncio.Event(), [0.0]

    def note(into: dict[str, bytes], job_id: str, body: bytes) -> None:
        into[job_id] = body
        at[0] = time.monotonic()
        if len(seen.replies) == len(seen.events) == len(jobs):
            done.set()

    async def on_reply(message: AbstractIncomingMessage) -> None:
        note(seen.replies, message.correlation_id or "", message.body)

    async def on_event(message: AbstractIncomingMessage) -> None:
        note(seen.events, orjson.loads(message.body)["data"]["job_id"], message.body)

    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await (await channel.get_queue(REPLY_TO, ensure=False)).consume(on_reply, no_ack=True)
        events = await channel.declare_queue(exclusive=True)
        await events.bind(EXCHANGE, COMPLETE)
        await events.consume(on_event, no_ack=True)
        meter, began = Meter([process.pid for process in processes]), time.monotonic()
        await _publish(peer, channel, jobs)
        try:
            await asyncio.wait_for(done.wait(), ANSWERS_TIMEOUT_S)
        except TimeoutError:
            tails = "\n".join(process.log_tail() for process in processes)
            raise NotEqual(f"{len(seen.replies)} replies, {len(seen.events)} events of {len(jobs)}\n{tails}") from None
        seen.cpu_ms = 1000 * meter.read(again=True) / len(jobs)
        seen.jobs_per_s = len(jobs) / (at[0] - began)
        await asyncio.sleep(0.5)
    return seen


async def _publish(peer: Peer, channel: AbstractChannel, jobs: Sequence[RawJob]) -> None:
    for start in range(0, len(jobs), 64):
        wires = [(job, peer.encode(job)) for job in jobs[start : start + 64]]
        messages = [
            aio_pika.Message(
                wire.body, headers=wire.headers, correlation_id=job.job_id, reply_to=REPLY_TO, **wire.properties
            )
            for job, wire in wires
        ]
        await asyncio.gather(*(channel.default_exchange.publish(message, QUEUE) for message in messages))
