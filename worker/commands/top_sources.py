"""Where `heimdall top` looks: the broker's queues, the workers behind the control exchange, and their `/metrics`."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

import aiohttp
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import AMQPError, ChannelClosed
from yarl import URL

from client.errors import BrokerUnreachable
from client.link import user_of
from schemas.control import CommandReply
from worker.amqp.topology import DEAD, UNROUTED
from worker.commands.fleet import ROLL_CALL_S, Fleet
from worker.commands.orders import parts_of
from worker.commands.top_figures import Figures, Reading, figures, read_metrics

_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class QueueFigures:
    """One queue. What AMQP alone does not tell is None.

    Attributes:
        ready: messages that wait.
        unacked: delivered, not settled.
        in_per_s, out_per_s: published; acknowledged.
    """

    name: str
    ready: int | None
    consumers: int | None
    unacked: int | None = None
    in_per_s: float | None = None
    out_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class WorkerFigures:
    """One worker.

    Attributes:
        name: its instance, or the address of its HTTP server.
        state: as it says.
        serving: part → version.
        measured: from its `/metrics`; None where none were given for it.
    """

    name: str
    state: str
    serving: dict[str, str]
    measured: Figures | None = None


@dataclass(frozen=True, slots=True)
class View:
    """Everything at one time.

    Attributes:
        problems: what could not be asked, and why.
    """

    queues: list[QueueFigures]
    workers: list[WorkerFigures]
    problems: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """For scripts."""
        return {
            "queues": [_fields(queue) for queue in self.queues],
            "workers": [
                {
                    "worker": worker.name,
                    "state": worker.state,
                    "serving": worker.serving,
                    "jobs_per_s": worker.measured and worker.measured.jobs_per_s,
                    "errors_per_s": worker.measured and worker.measured.errors_per_s,
                    "p95_ms": worker.measured and worker.measured.p95_ms,
                    "in_flight": worker.measured and worker.measured.in_flight,
                }
                for worker in self.workers
            ],
            "problems": self.problems,
        }


def _fields(queue: QueueFigures) -> dict[str, Any]:
    return {name: getattr(queue, name) for name in QueueFigures.__slots__}


class Sources:
    """All that is asked.

    Args:
        connection: to the broker.
        url: of that connection.
        queue: of the jobs.
        management_url: of the broker's HTTP API with user and password, without `/api`; None = not asked.
        worker_urls: of workers' HTTP servers.
    """

    def __init__(
        self,
        connection: AbstractConnection,
        url: URL,
        queue: str,
        management_url: str | None,
        worker_urls: Sequence[str],
    ) -> None:
        self._connection = connection
        self._vhost = url.path.removeprefix("/") or "/"
        self._user = user_of(url)
        self._queues = (queue, DEAD, UNROUTED)
        self._management_url = management_url
        self._worker_urls = worker_urls
        self._readings: dict[str, Reading] = {}

    async def look(self) -> View:
        """Ask everybody. Rates are those since the look before; the first look has none."""
        problems: list[str] = []
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            queues, answered, measured = await asyncio.gather(
                self._look_at_queues(http, problems), self._ask_workers(problems), self._measure(http, problems)
            )
        return View(queues, _joined(answered, measured), problems)

    async def _look_at_queues(self, http: aiohttp.ClientSession, problems: list[str]) -> list[QueueFigures]:
        queues = [await self._declare(name) for name in self._queues]
        if self._management_url is None:
            return queues
        try:
            return [await self._ask_management(http, self._management_url, queue) for queue in queues]
        except (aiohttp.ClientError, TimeoutError) as error:
            problems.append(f"management API: {error or type(error).__name__}")
            return queues

    async def _declare(self, name: str) -> QueueFigures:
        """What a passive declaration tells; on a channel of its own, as a missing queue closes it."""
        try:
            async with self._connection.channel() as channel:
                answer = (await channel.declare_queue(name, passive=True, timeout=_TIMEOUT_S)).declaration_result
                return QueueFigures(name, answer.message_count, answer.consumer_count)
        except ChannelClosed:
            return QueueFigures(name, None, None)
        except (AMQPError, OSError, RuntimeError, TimeoutError) as error:
            raise BrokerUnreachable(f"the connection was lost: {error or type(error).__name__}") from error

    async def _ask_management(self, http: aiohttp.ClientSession, url: str, queue: QueueFigures) -> QueueFigures:
        """The same with what AMQP does not tell; what it does tell is fresher."""
        async with http.get(f"{url.rstrip('/')}/api/queues/{quote(self._vhost, safe='')}/{queue.name}") as answer:
            if answer.status == HTTPStatus.NOT_FOUND:
                return queue
            answer.raise_for_status()
            found = await answer.json()
        stats = found.get("message_stats", {})
        return replace(
            queue,
            unacked=found.get("messages_unacknowledged"),
            in_per_s=stats.get("publish_details", {}).get("rate"),
            out_per_s=stats.get("ack_details", {}).get("rate"),
        )

    async def _ask_workers(self, problems: list[str]) -> dict[str, CommandReply]:
        # On a channel of its own: where no worker ever was there is no control exchange, and asking closes it.
        async with self._connection.channel(publisher_confirms=True, on_return_raises=True) as channel:
            fleet = Fleet(channel, self._user)
            await fleet.listen()
            question = await fleet.ask("info")
            answers = {} if question is None else await question.until(lambda _: False, ROLL_CALL_S)
        refused = sorted(name for name, answer in answers.items() if not answer.ok)
        problems += [f"{name} refuses: {answers[name].detail}" for name in refused]
        return answers

    async def _measure(self, http: aiohttp.ClientSession, problems: list[str]) -> dict[str, Figures]:
        found = await asyncio.gather(*(self._measure_one(http, url) for url in self._worker_urls))
        problems += [
            f"{url}: {said}" for url, said in zip(self._worker_urls, found, strict=True) if isinstance(said, str)
        ]
        return {url: said for url, said in zip(self._worker_urls, found, strict=True) if isinstance(said, Figures)}

    async def _measure_one(self, http: aiohttp.ClientSession, url: str) -> Figures | str:
        try:
            async with http.get(f"{url.rstrip('/')}/metrics") as answer:
                answer.raise_for_status()
                reading = read_metrics(await answer.text(), time.monotonic())
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            self._readings.pop(url, None)
            return f"{error}" or type(error).__name__
        before = self._readings.get(url, reading)
        self._readings[url] = reading
        return figures(before, reading)


def _joined(answered: dict[str, CommandReply], measured: dict[str, Figures]) -> list[WorkerFigures]:
    """One row per worker: what it answers, and what was measured of it where it can be told whose that is."""
    by_name = {found.name: found for found in measured.values() if found.name is not None}
    rows = [
        WorkerFigures(name, reply.state, parts_of(reply), by_name.get(name)) for name, reply in sorted(answered.items())
    ]
    others = [(url, found) for url, found in measured.items() if found.name is None or found.name not in answered]
    rows += [
        WorkerFigures(found.name or url, "takes jobs" if found.consuming else "takes none", dict(found.serving), found)
        for url, found in sorted(others)
    ]
    return rows
