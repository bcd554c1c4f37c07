"""Opening a session against a broker that fails half-way; what a session does is tested on a real broker."""

import asyncio

import pytest

from worker.amqp import session
from worker.amqp.session import open_session
from worker.amqp.topology import Topology
from worker.errors import Unavailable


class SilentConnection:
    """Open, and its peer says nothing more."""

    async def close(self):
        """Waits for an answer that never comes."""
        await asyncio.Event().wait()


async def test_a_silent_peer_does_not_hide_why_the_session_is_not_open(monkeypatch):
    """The first connection cannot be closed in time; what is said is why the second did not open."""
    opened = iter([SilentConnection()])

    async def connect(url, name):
        for connection in opened:
            return connection
        raise ConnectionResetError("reset by peer")

    monkeypatch.setattr(session, "_connect", connect)
    monkeypatch.setattr(session, "HEARTBEAT_S", 0.01)
    topology = Topology(queue="q", routing_key="r", queue_max_bytes=1, dead_max_bytes=1, declare=False)
    with pytest.raises(Unavailable, match="reset by peer"):
        await open_session("amqp://broker/", topology, prefetch_count=1, confirm_timeout=1, name="w")
