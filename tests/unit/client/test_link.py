"""The traps of the connection that no healthy broker shows."""

import asyncio
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from client import Capture, CaptureError, HeimdallClient
from client.job import Job, make_job
from client.link import Link, LinkLost


def job() -> Job:
    """Any job."""
    return make_job(Capture(samples=np.ones(4, np.complex64), sample_rate=1e3), user_id=None)


def link(publish: Any) -> Link:
    """A link whose exchange publishes as told."""
    callbacks = SimpleNamespace(add=lambda _: None)
    channel, exchange = SimpleNamespace(close_callbacks=callbacks), SimpleNamespace(publish=publish)
    return Link(SimpleNamespace(), channel, exchange)  # type: ignore[arg-type]


async def test_confirm_cancelled_by_the_library_is_a_lost_link() -> None:
    """A silent broker surfaces as CancelledError although nobody cancelled; it must not end the caller."""

    async def publish(*_: Any, **__: Any) -> None:
        raise asyncio.CancelledError

    broken = link(publish)
    with pytest.raises(LinkLost, match="silent"):
        await broken.publish(job(), 1.0)
    assert broken.lost.done()


async def test_cancelling_the_caller_cancels_it() -> None:
    """A real cancellation is passed on."""
    whole = link(lambda *_, **__: asyncio.sleep(10))
    task = asyncio.create_task(whole.publish(job(), 1.0))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not whole.lost.done()


@pytest.mark.parametrize("url", ["localhost", "http://localhost", "amqp://", ""])
def test_url_is_checked_before_connecting(url: str) -> None:
    """What is no AMQP URL is a usage error, not a broker that is away."""
    with pytest.raises(CaptureError, match="amqp://user:password@host"):
        HeimdallClient(url)
