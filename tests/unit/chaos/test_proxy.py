"""The proxy of the fault suite, between real sockets."""

import socket
import threading
import time
from collections.abc import Iterator

import pamqp.frame
import pytest
from pamqp import commands as spec

from bench.chaos.frames import ACK
from bench.chaos.proxy import Cut, Proxy
from deploy.local.ports import PortLease

GREETING = b"AMQP\x00\x00\x09\x01"


class Server:
    """Takes connections, remembers what it got, and answers each piece with as many bytes."""

    def __init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.got = b""
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            threading.Thread(target=self._echo, args=(connection,), daemon=True).start()

    def _echo(self, connection: socket.socket) -> None:
        with connection:
            try:
                while piece := connection.recv(65536):
                    self.got += piece
                    connection.sendall(piece)
            except OSError:
                return


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that echoes."""
    it = Server()
    yield it
    it.listening.close()


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    """A proxy before it."""
    lease = PortLease.take()
    with Proxy(lease.port, [server.port]) as it:
        yield it
    lease.release()


def connected(proxy: Proxy) -> socket.socket:
    """A connection through the proxy."""
    return socket.create_connection(("127.0.0.1", proxy.port), 5.0)


def test_it_passes_on(proxy: Proxy) -> None:
    """Undisturbed, bytes go both ways."""
    with connected(proxy) as client:
        client.sendall(b"hello")
        assert client.recv(100) == b"hello"


@pytest.mark.parametrize("after", [0, 1, 7, 20, 21])
def test_a_cut_inside_a_frame(proxy: Proxy, server: Server, after: int) -> None:
    """Exactly the bytes before the cut arrive, then the connection is reset; the next one is whole."""
    acknowledgement = pamqp.frame.marshal(spec.Basic.Ack(1, False), 1)
    proxy.cut = Cut(ACK, after)
    with connected(proxy) as client, pytest.raises(ConnectionResetError):
        until_closed(client, GREETING + acknowledgement + b"more")
    until(lambda: len(server.got) == len(GREETING) + after)
    assert server.got == GREETING + acknowledgement[:after]
    assert proxy.cut is None
    with connected(proxy) as client:
        client.sendall(GREETING + acknowledgement)
        assert client.recv(100)


def test_a_black_hole(proxy: Proxy) -> None:
    """In a black hole nothing arrives and nothing is closed; afterwards it arrives late."""
    with connected(proxy) as client:
        proxy.black_hole = True
        client.sendall(b"late")
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(100)
        proxy.restore()
        client.settimeout(5.0)
        assert client.recv(100) == b"late"


def test_resets(proxy: Proxy) -> None:
    """Every open connection is reset, and counted."""
    with connected(proxy) as client:
        client.sendall(b"hello")
        client.recv(100)
        assert proxy.reset_all() == 1
        with pytest.raises(ConnectionResetError):
            client.recv(100)


def test_a_narrow_line(proxy: Proxy) -> None:
    """At a rate, bytes take at least as long as they should."""
    proxy.bytes_per_s = 100_000
    with connected(proxy) as client:
        began = time.monotonic()
        client.sendall(b"x" * 20_000)
        received = 0
        while received < 20_000:
            received += len(client.recv(65536))
        assert time.monotonic() - began >= 0.2


def until_closed(client: socket.socket, data: bytes) -> None:
    """Send, and read until the connection ends; it must be by a reset."""
    client.sendall(data)
    while client.recv(100):
        pass


def until(condition: object) -> None:
    """Wait for something that another thread does."""
    ends = time.monotonic() + 5.0
    while not condition() and time.monotonic() < ends:  # type: ignore[operator]
        time.sleep(0.01)
