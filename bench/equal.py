"""Whether a subject ends a job as every other: stored, replied with the stored bytes, told, acknowledged."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final
from uuid import uuid4

import aio_pika
import orjson
import redis
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from bench.drain import MeasurementFailed
from bench.peers import PEERS
from bench.peers.peer import as_published
from bench.recipe import RawJob
from bench.requests import REPLY_TO
from bench.subjects import Conditions, Running
from schemas.events import COMPLETE, EXCHANGE
from schemas.result import RESULT_KEY_PREFIX

JOBS: Final = 8
_TIMEOUT_S: Final = 60.0


class _Heard:
    """Replies and events by job id."""

    def __init__(self, wanted: int) -> None:
        self.replies: dict[str, bytes] = {}
        self.events: dict[str, dict[str, Any]] = {}
        self.all = asyncio.Event()
        self._wanted = wanted

    async def on_reply(self, message: AbstractIncomingMessage) -> None:
        self.replies[message.correlation_id or ""] = message.body
        self._look()

    async def on_event(self, message: AbstractIncomingMessage) -> None:
        event = orjson.loads(message.body)
        self.events[event["data"]["job_id"]] = event
        self._look()

    def _look(self) -> None:
        if len(self.replies) == len(self.events) == self._wanted:
            self.all.set()


def check_outcomes(it: Running) -> None:
    """Have a few jobs done and look at all that becomes of them.

    Raises:
        MeasurementFailed: naming what is missing or differs.
    """
    workload, run = it.conditions.workload, uuid4().hex[:8]
    sigmf = workload.sigmf()
    jobs = [RawJob(f"equal-{run}-{n}", sigmf, body) for n, body in enumerate(workload.make_bodies(JOBS, seed=7))]
    heard = asyncio.run(_done(it, jobs))
    with redis.Redis.from_url(it.conditions.place.stack.store.url) as store:
        for job in jobs:
            _compare(it.subject.name, job.job_id, heard, store.get(RESULT_KEY_PREFIX + job.job_id))


def _compare(name: str, job_id: str, heard: _Heard, stored: Any) -> None:
    reply = heard.replies[job_id]
    if stored != reply:
        raise MeasurementFailed(f"{name}: what is stored is not what was replied: {reply[:200]!r}")
    result = orjson.loads(reply)
    if "position" not in result or len(result["geojson"]["features"]) != len(result["ellipses"]) + 1:
        raise MeasurementFailed(f"{name}: the answer is no whole result: {reply[:200]!r}")
    if heard.events[job_id]["data"] != result:
        raise MeasurementFailed(f"{name}: the event does not tell the result")


def require_acknowledged(conditions: Conditions) -> None:
    """Look at the queue of a subject that has been stopped: what it did not acknowledge is there again.

    Raises:
        MeasurementFailed: something is.
    """
    if waiting := conditions.place.waiting(conditions.queue):
        raise MeasurementFailed(f"{waiting} jobs were not acknowledged")


async def _done(it: Running, jobs: Sequence[RawJob]) -> _Heard:
    heard = _Heard(len(jobs))
    async with await aio_pika.connect(it.conditions.place.amqp_url) as connection:
        channel = await connection.channel()
        await (await channel.get_queue(REPLY_TO, ensure=False)).consume(heard.on_reply, no_ack=True)
        events = await channel.declare_queue(exclusive=True)
        await events.bind(EXCHANGE, COMPLETE)
        await events.consume(heard.on_event, no_ack=True)
        await _publish(it, channel, jobs)
        try:
            await asyncio.wait_for(heard.all.wait(), _TIMEOUT_S)
        except TimeoutError:
            raise MeasurementFailed(
                f"{it.subject.name}: {len(heard.replies)} replies and {len(heard.events)} events of {len(jobs)} jobs"
            ) from None
    return heard


async def _publish(it: Running, channel: AbstractChannel, jobs: Sequence[RawJob]) -> None:
    encode = next((peer.encode for peer in PEERS if peer.name == it.address.peer), as_published)
    for job in jobs:
        wire = encode(job)
        message = aio_pika.Message(
            wire.body, headers=wire.headers, correlation_id=job.job_id, reply_to=REPLY_TO, **wire.properties
        )
        await channel.default_exchange.publish(message, it.address.queue)
