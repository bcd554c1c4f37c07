"""The page's HTTP server, on a socket of our own: the port is known before anything is said. Needs NiceGUI."""

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import uvicorn
from fastapi import FastAPI
from nicegui import ui

from client.errors import CaptureError
from client.link import as_it_is, check_url, connect, disconnect
from client.map.hearing import Heard, hearing
from client.map.page import Tiles, serve_page
from client.options import DEFAULT_TIMEOUT_S

_CLOSE_S: Final = 2
_HISTORY: Final = 50
"""Messages to a page that are kept for one that reconnects; a page that missed more is loaded anew."""


class _Server(uvicorn.Server):
    """Leaves signals to `serve`: uvicorn would raise them again after the end."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(heard: Heard, host: str, port: int, tiles: Tiles, on_ready: Callable[[str], None]) -> None:
    """Serve the page until SIGINT or SIGTERM.

    Args:
        heard: what is shown; filled meanwhile.
        host: to listen on.
        port: to listen on; 0 = any that is free.
        tiles: what lies beneath the map.
        on_ready: told the page's URL when it can be opened.

    Raises:
        CaptureError: the address cannot be listened on, or the broker's URL is none.
        BrokerUnreachable: the broker cannot be reached at the start, or refuses the login.
    """
    with _listening(host, port) as listener:
        await _check_broker(heard.url)
        serve_page(heard, tiles)
        web = FastAPI(openapi_url=None)
        ui.run_with(web, title="Heimdall: live map", show_welcome_message=False, message_history_length=_HISTORY)
        config = uvicorn.Config(web, log_level="warning", timeout_graceful_shutdown=_CLOSE_S)
        server = _Server(config)
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, _end, server)
        on_ready(_url(listener))
        async with hearing(heard):
            await server.serve(sockets=[listener])


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address[:2], family=family)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CaptureError(f"--host {host} --port {port}: {reason}; --port 0 takes a free one") from None
    with listener:
        yield listener


async def _check_broker(url: str) -> None:
    await disconnect(await connect(check_url(url), as_it_is, timeout=DEFAULT_TIMEOUT_S))


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def _end(server: uvicorn.Server) -> None:
    server.should_exit = True
