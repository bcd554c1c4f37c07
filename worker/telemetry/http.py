"""The small HTTP server: metrics, health and model information. Reads only; on loopback unless told otherwise."""

from collections.abc import Callable
from typing import Any

import orjson
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from worker.telemetry.health import Probes
from worker.telemetry.metrics import Metrics

Pages = dict[str, Callable[[], Any]]


class HttpServer:
    """Serves until closed.

    Args:
        metrics: shown at `/metrics`.
        probes: shown at `/health/*`.
        pages: path → what to show there as JSON.
    """

    def __init__(self, metrics: Metrics, probes: Probes, pages: Pages) -> None:
        app = web.Application()
        app.router.add_get("/metrics", _metrics(metrics))
        for name, check in (("live", probes.live), ("ready", probes.ready), ("startup", probes.startup)):
            app.router.add_get(f"/health/{name}", _health(check))
        for path, page in pages.items():
            app.router.add_get(path, _page(page))
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)

    async def start(self, host: str, port: int) -> int:
        """Listen.

        Returns:
            The port: the one asked for, or the free one that was found for 0.

        Raises:
            OSError: the address is taken or not ours.
            UnicodeError: the host cannot be the name of one.
        """
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        return int(self._runner.addresses[0][1])

    async def close(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()


def _metrics(metrics: Metrics) -> Callable[[web.Request], Any]:
    async def handle(_: web.Request) -> web.Response:
        return web.Response(body=metrics.render(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return handle


def _health(check: Callable[[], list[str]]) -> Callable[[web.Request], Any]:
    async def handle(_: web.Request) -> web.Response:
        problems = check()
        body = {"status": "unavailable" if problems else "ok", "problems": problems}
        return web.Response(status=503 if problems else 200, body=orjson.dumps(body), content_type="application/json")

    return handle


def _page(page: Callable[[], Any]) -> Callable[[web.Request], Any]:
    async def handle(_: web.Request) -> web.Response:
        return web.Response(body=orjson.dumps(page()), content_type="application/json")

    return handle
