"""The traps of the connection that no healthy broker shows."""

import asyncio
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import trustme
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import ChannelPreconditionFailed
from pamqp import commands, frame
from yarl import URL

from client import BrokerUnreachable, Capture, CaptureError, HeimdallClient, PublishRefused
from client.job import Job, make_job
from client.link import Link, LinkLost, connect


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


async def test_a_job_that_is_too_large_is_refused_alone() -> None:
    """The broker closes the channel over one body; the others that waited on it may be in the queue."""

    async def publish(*_: Any, **__: Any) -> None:
        raise ChannelPreconditionFailed("PRECONDITION_FAILED - message size 32 is larger than configured max size 16")

    small = make_job(Capture(samples=np.ones(2, np.complex64), sample_rate=1e3), user_id=None)
    with pytest.raises(LinkLost, match="another job"):
        await link(publish).publish(small, 1.0)
    with pytest.raises(PublishRefused, match="message size 32"):
        await link(publish).publish(job(), 1.0)


async def test_cancelling_the_caller_cancels_it() -> None:
    """A real cancellation is passed on."""
    whole = link(lambda *_, **__: asyncio.sleep(10))
    task = asyncio.create_task(whole.publish(job(), 1.0))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not whole.lost.done()


async def test_a_connection_that_does_not_close_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of the time for connecting is not put off by saying goodbye."""

    async def for_ever(*_: object) -> Any:
        await asyncio.sleep(60)

    async def opened(_: URL) -> SimpleNamespace:
        return SimpleNamespace(close=for_ever)

    monkeypatch.setattr("client.link._CLOSE_TIMEOUT_S", 0.1)
    monkeypatch.setattr("client.link._open", opened)
    async with asyncio.timeout(20):
        with pytest.raises(BrokerUnreachable):
            await connect(URL("amqp://localhost"), for_ever, timeout=0.1)


def silent_at_once(_: ssl.SSLSocket) -> None:
    """A peer that says nothing."""


def silent_when_open(peer: ssl.SSLSocket) -> None:
    """A peer that opens a connection, and then says nothing."""
    start = commands.Connection.Start(server_properties={"capabilities": {"publisher_confirms": True}})
    for said in (start, commands.Connection.Tune(2047, 131_072, 10), commands.Connection.OpenOk()):
        peer.recv(4096)
        peer.sendall(frame.marshal(said, 0))


@pytest.mark.parametrize("talk", [silent_at_once, silent_when_open])
async def test_a_peer_that_falls_silent_behind_tls_is_left(
    talk: Callable[[ssl.SSLSocket], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers the end of TLS no more than anything else, which is not waited for."""
    monkeypatch.setattr("client.link._CLOSE_TIMEOUT_S", 0.2)
    authority, context = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    held: list[ssl.SSLSocket] = []  # A peer of the same loop would end TLS all by itself.

    def accept(listener: socket.socket) -> None:
        held.append(context.wrap_socket(listener.accept()[0], server_side=True))
        talk(held[0])

    async def prepare(connection: AbstractConnection) -> AbstractChannel:
        return await connection.channel()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = Thread(target=accept, args=(listener,))
        accepting.start()
        url = URL(f"amqps://localhost:{listener.getsockname()[1]}/?cafile={tmp_path}/ca.crt")
        began = time.monotonic()
        with pytest.raises(BrokerUnreachable, match=r"within 1 s: it does not answer"):
            await connect(url, prepare, timeout=1)
        assert time.monotonic() - began < 5
        accepting.join()
    held[0].close()


@pytest.mark.parametrize("url", ["localhost", "http://localhost", "amqp://", ""])
def test_url_is_checked_before_connecting(url: str) -> None:
    """What is no AMQP URL is a usage error, not a broker that is away."""
    with pytest.raises(CaptureError, match="amqp://user:password@host"):
        HeimdallClient(url)
