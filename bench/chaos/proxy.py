"""A TCP proxy between a worker and a server, with everything that a bad network does.

It runs in a thread of its own; its switches may be turned from any other.
"""

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Self

from bench.chaos.frames import FrameStream

_CHUNK: Final = 64 * 1024
_POLL_S: Final = 0.02
_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER for no time at all: close() sends a reset instead of an orderly end."""


@dataclass
class Cut:
    """Cut a connection at the next frame of a method on its way to the server.

    Attributes:
        method: class and method of the frame.
        after: bytes from the frame's first that still get through, of it and of what follows.
    """

    method: int
    after: int


class Proxy:
    """Listens on a port of 127.0.0.1 and passes on to the first server that answers.

    Args:
        port: to listen on; leased by the caller.
        servers: ports on 127.0.0.1.
    """

    def __init__(self, port: int, servers: Sequence[int]) -> None:
        self.port = port
        self._servers = list(servers)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-{port}", daemon=True)
        self._open: set[_Passage] = set()
        self._listening: asyncio.Server | None = None
        self.black_hole = False
        """Nothing gets through in either direction, and nothing is closed."""
        self.bytes_per_s: float | None = None
        """Of each direction of each connection."""
        self.delay_s = 0.0
        """Added to each piece."""
        self.cut: Cut | None = None
        """The next cut; None again once it was made."""

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def reset_all(self) -> int:
        """Reset every connection, on both sides; how many there were."""
        return asyncio.run_coroutine_threadsafe(self._reset_all(), self._loop).result(10)

    def restore(self) -> None:
        """Let everything through again. What was held back by a black hole is still delivered, late."""
        self.black_hole, self.bytes_per_s, self.delay_s, self.cut = False, None, 0.0, None

    def take_cut(self) -> Cut | None:
        """The next cut, which is made by whoever takes it."""
        cut, self.cut = self.cut, None
        return cut

    async def _listen(self) -> None:
        self._listening = await asyncio.start_server(self._on_connect, "127.0.0.1", self.port)

    async def _close(self) -> None:
        if self._listening is not None:
            self._listening.close()
        await self._reset_all()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _reset_all(self) -> int:
        passages = list(self._open)
        for passage in passages:
            passage.reset()
        return len(passages)

    async def _on_connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while self.black_hole:  # noqa: ASYNC110 - another thread turns the switch
            await asyncio.sleep(_POLL_S)
        upstream = await self._connect()
        if upstream is None:
            writer.close()
            return
        passage = _Passage(self, (reader, writer), upstream)
        self._open.add(passage)
        try:
            with suppress(asyncio.CancelledError):  # The proxy is being closed, and so is this.
                await passage.run()
        finally:
            self._open.discard(passage)
            passage.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        for port in random.sample(self._servers, len(self._servers)):
            with suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", port)
        return None


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Passage:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, client: Streams, server: Streams) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server

    async def run(self) -> None:
        """Pass on in both directions until either ends."""
        knife = _Knife(self._proxy)
        up = asyncio.create_task(self._pump(self._client[0], self._server[1], knife.at))
        down = asyncio.create_task(self._pump(self._server[0], self._client[1], lambda _: None))
        try:
            await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (up, down):
                task.cancel()
            await asyncio.gather(up, down, return_exceptions=True)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: Callable[[bytes], int | None]
    ) -> None:
        with suppress(OSError):
            while piece := await reader.read(self._piece_size()):
                await self._hold_back(len(piece))
                through = cut(piece)
                writer.write(piece if through is None else piece[:through])
                await writer.drain()
                if through is not None:
                    self.reset_after_flush()
                    return

    def _piece_size(self) -> int:
        rate = self._proxy.bytes_per_s
        return _CHUNK if rate is None else max(1, min(_CHUNK, int(rate / 10)))

    async def _hold_back(self, size: int) -> None:
        if self._proxy.delay_s:
            await asyncio.sleep(self._proxy.delay_s)
        if self._proxy.bytes_per_s:
            await asyncio.sleep(size / self._proxy.bytes_per_s)
        while self._proxy.black_hole:  # noqa: ASYNC110 - another thread turns the switch
            await asyncio.sleep(_POLL_S)

    def reset_after_flush(self) -> None:
        """Reset the client; end the server's side in order, so that what went through before the cut arrives."""
        _reset(self._client[1])
        self._server[1].close()

    def reset(self) -> None:
        """Reset both sides."""
        _reset(self._client[1])
        _reset(self._server[1])

    def close(self) -> None:
        """Close both sides."""
        for _, writer in (self._client, self._server):
            writer.close()


class _Knife:
    """Finds the place of a cut in what one connection sends."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._stream = FrameStream()
        self._place: int | None = None

    def at(self, piece: bytes) -> int | None:
        """How many bytes of the next piece still get through; None = all."""
        base = self._stream.seen
        for frame in self._stream.feed(piece):
            wanted = self._proxy.cut
            if self._place is None and wanted is not None and wanted.method == frame.method:
                self._proxy.take_cut()
                self._place = frame.start + wanted.after
        if self._place is None or self._place > self._stream.seen:
            return None
        return max(0, self._place - base)


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    if connection is not None:
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
