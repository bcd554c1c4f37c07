from contextlib import asynccontextmanager

import aiohttp
import pytest

from worker.telemetry.health import Probes
from worker.telemetry.http import HttpServer
from worker.telemetry.metrics import Metrics


@pytest.fixture
def problems():
    """Why the worker does not take jobs."""
    return []


@asynccontextmanager
async def serving(problems, pages=None):
    """A client of a running server."""
    probes = Probes(
        loop_beat_at=lambda: 0.0 if "stuck" in problems else float("inf"),
        progress_at=lambda: 0.0,
        busy=lambda: False,
        obstacles=lambda: list(problems),
        started=lambda: not problems,
        live_timeout_s=60.0,
    )
    metrics = Metrics()
    metrics.delivered(redelivered=False)
    server = HttpServer(metrics, probes, pages or {"/model/info": lambda: {"model": None}})
    port = await server.start("127.0.0.1", 0)
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
            yield client
    finally:
        await server.close()


async def test_metrics_are_in_the_text_format(problems):
    """A Prometheus server can read them."""
    async with serving(problems) as client, client.get("/metrics") as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/plain")
        assert "heimdall_deliveries_total 1.0" in await answer.text()


@pytest.mark.parametrize("probe", ["live", "ready", "startup"])
async def test_health_is_200_while_nothing_stands_against_it(problems, probe):
    """An orchestrator reads the status, a person the body."""
    async with serving(problems) as client, client.get(f"/health/{probe}") as answer:
        assert answer.status == 200
        assert await answer.json() == {"status": "ok", "problems": []}


@pytest.mark.parametrize(("problem", "statuses"), [("draining", (200, 503, 503)), ("stuck", (503, 503, 503))])
async def test_health_is_503_with_the_reason(problems, problem, statuses):
    """A worker that only takes no jobs is not restarted; one whose loop is stuck is."""
    problems.append(problem)
    async with serving(problems) as client:
        for probe, status in zip(("live", "ready", "startup"), statuses, strict=True):
            async with client.get(f"/health/{probe}") as answer:
                assert answer.status == status
                body = await answer.json()
                assert bool(body["problems"]) is (status == 503)


async def test_pages_are_json_made_when_asked(problems):
    """Each request sees the state of that moment."""
    state = {"n": 0}
    async with serving(problems, {"/page": lambda: state}) as client:
        for number in (1, 2):
            state["n"] = number
            async with client.get("/page") as answer:
                assert answer.headers["Content-Type"].startswith("application/json")
                assert await answer.json() == {"n": number}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/model/other", 404), ("POST", "/model/info", 405), ("DELETE", "/metrics", 405)],
)
async def test_nothing_else_is_served(problems, method, path, status):
    """Reads only, of known paths."""
    async with serving(problems) as client, client.request(method, path) as answer:
        assert answer.status == status


async def test_a_page_that_fails_is_a_500_and_the_server_goes_on(problems):
    """A bug in a page harms nobody but its reader."""
    pages = {"/broken": lambda: 1 / 0, "/sound": lambda: 1}
    async with serving(problems, pages) as client:
        async with client.get("/broken") as answer:
            assert answer.status == 500
        async with client.get("/sound") as answer:
            assert answer.status == 200


async def test_a_taken_port_is_an_error(problems):
    """Two workers on one port: the second says so."""
    first, second = (HttpServer(Metrics(), _probes(), {}) for _ in range(2))
    port = await first.start("127.0.0.1", 0)
    try:
        with pytest.raises(OSError, match="address already in use"):
            await second.start("127.0.0.1", port)
    finally:
        await first.close()
        await second.close()


def _probes():
    return Probes(lambda: 0.0, lambda: 0.0, lambda: False, list, lambda: True, 60.0)
