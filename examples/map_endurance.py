"""Does `heimdall map` grow? Ten results per second for minutes: memory of its process, DOM and heap of its page.

    python -m examples.map_endurance --minutes 10

Sessions begin and end all the time, and every twentieth job is answered with an error; so everything that is kept is
let go again. What had to fill up first is no growth: the first samples after that are compared with the last ones.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import psutil
from selenium import webdriver

from client import Capture, HeimdallClient
from deploy.local import ServiceProcess, Stack
from deploy.local.command import run_command
from examples.demo import register_demo_model
from examples.map_browser import browser, counts, memory, results_told, screenshot, until
from examples.map_demo import RunningMap, running_map
from examples.map_sources import capture_of, moving_sources, too_short
from examples.network import TORINO

OUT: Final = Path("out/map")
RATE_HZ: Final = 10.0
KEEP: Final = 20
AT_A_TIME: Final = 10
"""Sessions under way."""
LONGEST_SESSION_S: Final = 30.0
WARM_SESSIONS: Final = 2.5
"""After so many lives of a session the map holds as much as it ever will."""
BAD_EVERY: Final = 20
CAPTURES: Final = 60
SAMPLES: Final = 60
LAST_ARRIVE_S: Final = 20.0
MIB: Final = 2**20


@dataclass(frozen=True, slots=True)
class Sample:
    """One look: resident bytes of the map's process, and what the page holds."""

    rss_bytes: int
    nodes: float
    listeners: float
    heap_bytes: float
    fixes: int


@dataclass(slots=True)
class Figures:
    """What came of a run.

    Attributes:
        published: jobs that the broker confirmed.
        results: results and errors that the page told of.
        warm: looks at a map that is full, in order.
    """

    seconds: float
    published: int = 0
    results: int = 0
    warm: list[Sample] = field(default_factory=list)

    @property
    def rss_growth_mib(self) -> float:
        """Of the map's process, MiB."""
        first, last = self._ends("rss_bytes")
        return (last - first) / MIB

    @property
    def rss_growth(self) -> float:
        """Of the map's process, as a share of what it had."""
        first, last = self._ends("rss_bytes")
        return last / first - 1

    @property
    def nodes(self) -> tuple[float, float]:
        """DOM nodes at first and at last."""
        return self._ends("nodes")

    def line(self) -> str:
        """The last line."""
        (nodes, nodes_last), (heap, heap_last) = self.nodes, self._ends("heap_bytes")
        listeners = self._ends("listeners")
        parts = {
            "minutes": f"{self.seconds / 60:.1f}",
            "results": f"{self.results}/{self.published}",
            "rss_growth": f"{self.rss_growth_mib:+.1f}MiB({self.rss_growth:+.1%})",
            "nodes": f"{nodes:.0f}->{nodes_last:.0f}",
            "listeners": f"{listeners[0]:.0f}->{listeners[1]:.0f}",
            "heap_mib": f"{heap / MIB:.1f}->{heap_last / MIB:.1f}",
            "fixes_shown": f"{max(sample.fixes for sample in self.warm)}",
        }
        return "map: " + " ".join(f"{name}={value}" for name, value in parts.items())

    def _ends(self, name: str) -> tuple[float, float]:
        """Median of the first and of the last third of the looks."""
        values = [float(getattr(sample, name)) for sample in self.warm]
        third = max(1, len(values) // 3)
        return statistics.median(values[:third]), statistics.median(values[-third:])


class _Publisher(threading.Thread):
    """Publishes from a thread of its own, as the browser's driver blocks."""

    def __init__(self, url: str, seconds: float, session_s: float) -> None:
        super().__init__(name="publisher", daemon=True)
        self._url, self._seconds, self._session_s = url, seconds, session_s
        self.published = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        """Publish until the time is over."""
        try:
            asyncio.run(self._publish(_captures()))
        except Exception as error:
            self.error = error

    async def _publish(self, captures: Sequence[Capture]) -> None:
        loop = asyncio.get_running_loop()
        async with HeimdallClient(self._url) as client:
            began_s = loop.time()
            while (now_s := self.published / RATE_HZ) < self._seconds:
                await asyncio.sleep(max(0.0, began_s + now_s - loop.time()))
                capture = replace(captures[self.published % CAPTURES], capture_time=datetime.now(UTC).isoformat())
                if self.published % BAD_EVERY == BAD_EVERY - 1:
                    capture = too_short(capture)
                session = f"session-{int(now_s / self._session_s)}-{self.published % AT_A_TIME}"
                await client.publish(capture, session_id=session)
                self.published += 1


def endure(driver: webdriver.Chrome, amqp_url: str, seconds: float, log: Path) -> Figures:
    """Show the results of a broker's workers for a time, and watch.

    Args:
        driver: the browser.
        amqp_url: of a broker with a worker that takes the demo's captures.
        seconds: how long is published.
        log: of the map's process.
    """
    session_s = min(LONGEST_SESSION_S, seconds / 6)
    with running_map(amqp_url, log, "--port", 0, "--keep", KEEP, "--forget", max(1.0, session_s)) as live_map:
        driver.get(live_map.url)
        until(lambda: results_told(driver) is not None, LAST_ARRIVE_S)
        publisher = _Publisher(amqp_url, seconds, session_s)
        figures = Figures(seconds)
        with _running(publisher):
            _watch(driver, live_map, publisher, figures, WARM_SESSIONS * session_s)
        figures.published = publisher.published
        until(lambda: (results_told(driver) or 0) >= figures.published, LAST_ARRIVE_S)
        figures.results = results_told(driver) or 0
        screenshot(driver, OUT / "endurance.png")
    return figures


def main(argv: Sequence[str] | None = None) -> int:
    """0 if all results were shown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    arguments = parser.parse_args(argv)
    return run_command(lambda: _endure(arguments.minutes))


def _endure(minutes: float) -> int:
    with Stack.running() as stack, tempfile.TemporaryDirectory() as folder:
        register_demo_model(stack.tracking_uri)
        env = {**stack.worker_env(), "HEIMDALL_CONTROL_USERS": "guest"}
        with ServiceProcess([sys.executable, "-m", "worker"], env), browser() as driver:
            figures = endure(driver, stack.broker.url, 60 * minutes, Path(folder) / "map.log")
    print(figures.line())
    return 0 if figures.results == figures.published else 1


def _captures() -> list[Capture]:
    rng = np.random.default_rng(1)
    sources = moving_sources(TORINO, AT_A_TIME, 1)
    return [capture_of(TORINO, sources[number % AT_A_TIME], 3.0 * number, rng) for number in range(CAPTURES)]


@contextmanager
def _running(publisher: _Publisher) -> Iterator[None]:
    publisher.start()
    yield
    publisher.join()
    if publisher.error is not None:
        raise publisher.error


def _watch(
    driver: webdriver.Chrome, live_map: RunningMap, publisher: _Publisher, figures: Figures, warm_after_s: float
) -> None:
    process = psutil.Process(live_map.process.pid)
    began_s = time.monotonic()
    while publisher.is_alive():
        time.sleep(max(0.5, figures.seconds / SAMPLES))
        if time.monotonic() - began_s >= warm_after_s:
            shown = counts(driver)["fixes"]
            figures.warm.append(Sample(process.memory_info().rss, fixes=shown, **memory(driver)))


if __name__ == "__main__":
    sys.exit(main())
