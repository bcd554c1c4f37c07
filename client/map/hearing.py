"""The tasks behind the page: events and answers go in, what is old goes out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from client.errors import BrokerUnreachable
from client.following import follow
from client.link import check_url, without_password
from client.map.state import LiveState
from client.map.workers import Workers, ask_workers

_RETRY_S: Final = 5.0
_PATIENCE_S: Final = 10.0
"""So long a lost connection is made anew before the page says so."""
_FORGET_EVERY_S: Final = 1.0


@dataclass(slots=True)
class Heard:
    """All that the page shows.

    Attributes:
        url: of the broker; holds its password.
        trouble: why no events are heard; None while they are.
    """

    url: str
    state: LiveState
    workers: Workers = field(default_factory=Workers)
    trouble: str | None = "connecting to the broker"

    @property
    def broker(self) -> str:
        """The broker's URL as it may be shown."""
        return without_password(check_url(self.url))

    def now_s(self) -> float:
        """The clock of all times within."""
        return asyncio.get_running_loop().time()


@asynccontextmanager
async def hearing(heard: Heard) -> AsyncIterator[None]:
    """Hear events and answers while the block runs."""
    tasks = [
        asyncio.create_task(task)
        for task in (_hear_events(heard), ask_workers(heard.url, heard.workers), _forget(heard))
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _hear_events(heard: Heard) -> None:
    def ready() -> None:
        heard.trouble = None

    while True:
        try:
            async with aclosing(follow(heard.url, patience_s=_PATIENCE_S, on_ready=ready)) as events:
                async for event in events:
                    heard.state.add(event, heard.now_s())
        except BrokerUnreachable as error:
            heard.trouble = str(error)
        await asyncio.sleep(_RETRY_S)


async def _forget(heard: Heard) -> None:
    while True:
        await asyncio.sleep(_FORGET_EVERY_S)
        heard.state.forget(heard.now_s())
        heard.workers.forget(heard.now_s() - heard.state.limits.forget_s)
