"""`heimdall map` in a real Chromium, on a real broker with a real worker."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from selenium import webdriver
from selenium.webdriver import ActionChains

from deploy.local import Broker, MissingProgram
from examples.map_browser import browser, counts, program, results_told, screenshot, until
from examples.map_demo import RunningMap, running_map
from examples.map_endurance import endure
from tests.support.models import metadata, tone
from tests.support.stack import management
from tests.support.station import PATIENCE_S, Publisher, Station

OUT = Path("out/map")
KEEP = 4
HOSTILE = "<img src=x onerror='window.hacked=1'>"


@dataclass
class Page:
    """The map in a browser."""

    driver: webdriver.Chrome
    map: RunningMap

    def until_shown(self, **expected: int) -> None:
        """Wait until the page counts what it should show."""
        shown: dict[str, int] = {}

        def so() -> bool:
            shown.update(counts(self.driver))
            return expected.items() <= shown.items()

        assert until(so, PATIENCE_S), f"{shown}, not {expected}\n{self.map.process.log_tail()}"

    def text(self, selector: str) -> str:
        """The text of an element, empty while there is none. Rows are made anew all the time: no element is held."""
        script = "return document.querySelector(arguments[0])?.innerText.replaceAll('\\t', ' ') ?? ''"
        return str(self.driver.execute_script(script, selector))

    def press(self, selector: str, holding: str = "") -> None:
        """Click on the first element that holds a text."""
        script = """
            const found = [...document.querySelectorAll(arguments[0])];
            const wanted = found.find((element) => element.textContent.includes(arguments[1]));
            wanted?.click();
            return wanted !== undefined;
        """
        assert until(lambda: self.driver.execute_script(script, selector, holding), PATIENCE_S), (selector, holding)

    def until_told(self, selector: str, *words: str) -> str:
        """Wait until an element's text has all the words; the text."""
        assert until(lambda: all(word in self.text(selector) for word in words), PATIENCE_S), self.text(selector)
        return self.text(selector)

    def click_at(self, latitude: float, longitude: float) -> None:
        """Click with the mouse on a place of the map."""
        box, x, y = self.driver.execute_script(
            """
            const box = document.querySelector(".leaflet-container");
            const point = getElement(Number(box.id.slice(1))).map.latLngToContainerPoint([arguments[0], arguments[1]]);
            return [box, point.x - box.clientWidth / 2, point.y - box.clientHeight / 2];
            """,
            latitude,
            longitude,
        )
        ActionChains(self.driver).move_to_element_with_offset(box, round(x), round(y)).click().perform()

    def close_details(self) -> None:
        """Close what a click opened: it covers its neighbours."""
        self.press(".leaflet-popup-close-button")
        assert until(lambda: not self.text(".fix-details"), PATIENCE_S)

    def requested(self) -> set[str]:
        """URLs that were asked for since the browser began."""
        entries = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [entry["params"] for entry in entries if entry["method"] == "Network.requestWillBeSent"]
        return {entry["request"]["url"] for entry in sent}


@pytest.fixture(scope="module")
def driver() -> Iterator[webdriver.Chrome]:
    """One browser for all tests of the module."""
    try:
        program("chromium")
    except MissingProgram as missing:
        pytest.skip(str(missing))
    with browser() as it:
        yield it


def loaded(driver: webdriver.Chrome, live_map: RunningMap) -> Page:
    """A map in the browser, as soon as it tells something."""
    driver.get(live_map.url)
    assert until(lambda: results_told(driver) is not None, PATIENCE_S), live_map.process.log_tail()
    return Page(driver, live_map)


@pytest.fixture(scope="module")
def shared_map(shared_station: Station, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMap]:
    """One map of the shared worker for all tests of the module."""
    log = tmp_path_factory.mktemp("map") / "map.log"
    with running_map(shared_station.amqp_url, log, "--port", 0) as it:
        yield it


@pytest.fixture
def page(driver: webdriver.Chrome, shared_map: RunningMap) -> Page:
    """The shared map, loaded anew."""
    return loaded(driver, shared_map)


async def located(jobs: Publisher, session: str | None, seed: int, channels: int = 3) -> dict[str, Any]:
    """A result of a session."""
    headers = {} if session is None else {"session_id": session}
    body = tone(seed, channels=channels, amplitude=0.1 * 3.0**seed)
    return (await jobs.locate(body, sigmf=metadata(channels), headers=headers)).json


async def test_what_a_worker_tells_is_shown(page: Page, jobs: Publisher) -> None:
    """Receivers, fixes and ellipses as they come; details on a click; the error and the worker; nothing from afar."""
    first = await located(jobs, "walk", 0)
    last = await located(jobs, "walk", 2)
    await located(jobs, "drive", 1, channels=2)
    page.until_shown(receivers=3, sessions=2, fixes=3, ellipses=4)

    page.click_at(**_place(first))
    details = page.until_told(".fix-details", "Session walk", first["job_id"])
    assert "2026-01-01T00:00:00.123456789Z" in details
    assert re.search("^Age .* when located; .* now$", details, re.MULTILINE)
    assert f"Model {first['model']['name']} version 1 (production)" in details
    assert "95 % ellipse" in details
    page.close_details()
    page.click_at(**_place(last))
    page.until_told(".fix-details", last["job_id"])

    refused = (await jobs.locate(tone(n=100))).json
    assert "too_few_samples" in page.until_told(".map-errors", refused["job_id"])
    page.until_told(".map-workers", "serving", "production 1")
    screenshot(page.driver, OUT / "map.png")
    page.press(".map-errors tbody tr", refused["job_id"])
    page.until_told(".map-problem", "What to do: Record longer")

    page.driver.refresh()
    page.until_shown(receivers=3, sessions=2, fixes=3, ellipses=4)
    assert all(url.startswith((page.map.url, "data:", "blob:", "about:")) for url in page.requested())


async def test_only_the_last_fixes_stay(
    driver: webdriver.Chrome, shared_station: Station, jobs: Publisher, tmp_path: Path
) -> None:
    """`--keep` bounds a session; another without a name is one too; ellipses as chosen."""
    # A map of its own: what another has drawn by now, nobody can tell.
    with running_map(shared_station.amqp_url, tmp_path / "map.log", "--port", 0, "--keep", KEEP) as live_map:
        page = loaded(driver, live_map)
        for seed in range(KEEP + 2):
            await located(jobs, "kept", seed % 4)
        await located(jobs, None, 0)
        page.until_shown(sessions=2, fixes=KEEP + 1, ellipses=4)
        for which, ellipses in (("all", 2 * (KEEP + 1)), ("none", 0), ("newest", 4)):
            page.press("button", which)
            page.until_shown(ellipses=ellipses)


async def test_names_are_text(page: Page, jobs: Publisher) -> None:
    """A session whose name is HTML is shown by its name, beside the map and on it; nothing of it is run."""
    await located(jobs, HOSTILE, 0)
    page.until_told(".map-sessions", HOSTILE)
    page.press(".map-sessions tbody tr", HOSTILE)
    page.until_told(".fix-details", HOSTILE)
    assert page.driver.execute_script("return window.hacked") is None


def test_a_login_that_may_not_command(
    driver: webdriver.Chrome, shared_station: Station, broker: Broker, tmp_path: Path
) -> None:
    """It is not asked for twice; the page says that workers are known by their results, and follows these."""
    url = _login_of_a_client(broker, shared_station.amqp_url)
    with running_map(url, tmp_path / "map.log", "--port", 0) as live_map:
        page = loaded(driver, live_map)
        page.until_told(".map-note", "known by their results only", "publish nothing to heimdall.control")


def test_tiles_are_asked_for_where_a_server_is_named(
    driver: webdriver.Chrome, shared_station: Station, tmp_path: Path
) -> None:
    """`--tiles` leads to that server, whose owner is named on the map; SIGTERM ends all of it with code 0."""
    with tile_server() as (url, asked):
        options = ("--port", 0, "--tiles", url + "/{z}/{x}/{y}.png", "--attribution", "Tiles by somebody")
        with running_map(shared_station.amqp_url, tmp_path / "map.log", *options) as live_map:
            page = loaded(driver, live_map)
            page.until_told(".leaflet-control-attribution", "Tiles by somebody")
            assert until(lambda: "/2/2/1.png" in asked, PATIENCE_S), asked
            live_map.process.stop(PATIENCE_S)
            assert live_map.process.returncode == 0, live_map.process.log_tail()
            assert "Traceback" not in live_map.process.log_tail()


def test_it_does_not_grow(shared_station: Station, driver: webdriver.Chrome, tmp_path: Path) -> None:
    """Ten results per second, sessions that come and go: all are shown, and what is held stays what it was."""
    figures = endure(driver, shared_station.amqp_url, 15.0, tmp_path / "map.log")
    assert figures.results == figures.published == 150
    nodes, nodes_last = figures.nodes
    assert nodes_last < 1.25 * nodes, figures.line()
    assert figures.rss_growth < 0.1, figures.line()


def _login_of_a_client(broker: Broker, url: str) -> str:
    """A user who hears events and publishes to nothing."""
    parts = urlsplit(url)
    management(broker, "PUT", "/users/looker", {"password": "looks", "tags": ""})
    rights = {"configure": "^amq\\.gen-.*", "write": "^amq\\.gen-.*", "read": "^(amq\\.gen-.*|heimdall\\.events)$"}
    management(broker, "PUT", f"/permissions/{parts.path.removeprefix('/')}/looker", rights)
    return urlunsplit(parts._replace(netloc=f"looker:looks@{parts.hostname}:{parts.port}"))


def _place(result: dict[str, Any]) -> dict[str, float]:
    return {name: result["position"][name] for name in ("latitude", "longitude")}


@contextmanager
def tile_server() -> Iterator[tuple[str, list[str]]]:
    """A server that has no tile, and notes which it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        log_message: Callable[..., None] = lambda *_: None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
