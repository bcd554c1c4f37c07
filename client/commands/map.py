"""`heimdall map`: a web page that shows live results.

Exit codes: 0 ended by Ctrl-C; 2 an option is wrong, or NiceGUI is absent; 3 no broker.
"""

import asyncio
from importlib.util import find_spec
from typing import Annotated, Final

import typer

from client.commands import parameters as p
from client.commands.exits import ExitCode, told
from client.commands.messages import shown, stderr
from client.errors import CaptureError
from client.link import check_url

_EXTRA: Final = "heimdall-worker[map]"
_DEFAULT_PORT: Final = 8080
_DEFAULT_KEEP: Final = 100
_DEFAULT_FORGET_S: Final = 1800.0

Url = Annotated[str, typer.Option("--url", "--amqp", envvar="HEIMDALL_AMQP_URL", help="Of RabbitMQ.")]
Host = Annotated[str, typer.Option("--host", help="To listen on. The page asks for no login: see docs/map.md.")]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="To listen on; 0 = any that is free.")]
Keep = Annotated[int, typer.Option("--keep", min=1, max=2000, metavar="N", help="Fixes per session; older ones go.")]
Forget = Annotated[
    float,
    typer.Option("--forget", min=1, metavar="SECONDS", help="Sessions, receivers and errors go that are older."),
]
TileUrl = Annotated[
    str,
    typer.Option("--tiles", metavar="URL", help="Of a tile server, with {z}, {x} and {y}; default: none is asked."),
]
Attribution = Annotated[str, typer.Option("--attribution", metavar="TEXT", help="Shown with the tiles.")]


def map_command(
    *,
    url: Url = p.DEFAULT_URL,
    host: Host = "127.0.0.1",
    port: Port = _DEFAULT_PORT,
    keep: Keep = _DEFAULT_KEEP,
    forget: Forget = _DEFAULT_FORGET_S,
    tiles: TileUrl = "",
    attribution: Attribution = "",
) -> None:
    """Show live results on a map, in a browser."""
    messages = stderr()
    with told(messages), shown(messages):
        check_url(url)
        _check_tiles(tiles)
        _check_extra()
        from client.map.hearing import Heard  # noqa: PLC0415 - what follows needs the extra
        from client.map.page import Tiles  # noqa: PLC0415
        from client.map.server import serve  # noqa: PLC0415
        from client.map.state import Limits, LiveState  # noqa: PLC0415

        heard = Heard(url, LiveState(Limits(fixes_per_session=keep, forget_s=forget)))

        def ready(page: str) -> None:
            typer.echo(f"map: {page}")
            messages.print(f"showing results at {heard.broker}; Ctrl-C ends", style="dim", soft_wrap=True)

        asyncio.run(serve(heard, host, port, Tiles(tiles, attribution), ready))
    raise typer.Exit(ExitCode.LOCATED)


def _check_extra() -> None:
    if find_spec("nicegui") is None:
        raise CaptureError(f"the map needs NiceGUI, which is not installed: pip install '{_EXTRA}'")


def _check_tiles(url: str) -> None:
    missing = [part for part in ("{z}", "{x}", "{y}") if url and part not in url]
    if missing:
        raise CaptureError(
            f"--tiles {url}: {', '.join(missing)} missing; such as https://tiles.example/{{z}}/{{x}}/{{y}}.png"
        )
