"""A real Chromium without a screen, for the map's test and its endurance run."""

import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from deploy.local import MissingProgram, apt

WINDOW: Final = "1500,950"
OFFLINE: Final = "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
"""No name leads anywhere: what the page needs must come from where it came from."""
_PACKAGES: Final = {"chromium": "chromium", "chromedriver": "chromium-driver"}
POLL_S: Final = 0.1
_TOLD: Final = re.compile(r": results (\d+) .*, errors (\d+)$")


def program(name: str) -> str:
    """Path of a program of the browser; installs its Debian package where it is missing and that is possible.

    Raises:
        MissingProgram: it is not there, and cannot be installed.
    """
    if shutil.which(name) is None:
        if not apt.possible():
            raise MissingProgram(f"{name} is not installed: install Debian's {_PACKAGES[name]}")
        apt.install(_PACKAGES[name], lambda: shutil.which(name) is not None)
    return str(shutil.which(name))


@contextmanager
def browser() -> Iterator[webdriver.Chrome]:
    """A Chromium that reaches this machine alone; it records its requests and what the page logs."""
    options = webdriver.ChromeOptions()
    options.binary_location = program("chromium")
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        f"--window-size={WINDOW}",
        f"--host-resolver-rules={OFFLINE}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service(program("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def memory(driver: webdriver.Chrome) -> dict[str, float]:
    """DOM nodes, event listeners and the JavaScript heap in bytes, after a garbage collection (CDP, Performance)."""
    driver.execute_cdp_cmd("HeapProfiler.collectGarbage", {})
    driver.execute_cdp_cmd("Performance.enable", {})
    metrics: list[dict[str, Any]] = driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    wanted = {"Nodes": "nodes", "JSEventListeners": "listeners", "JSHeapUsedSize": "heap_bytes"}
    return {wanted[metric["name"]]: metric["value"] for metric in metrics if metric["name"] in wanted}


def counts(driver: webdriver.Chrome) -> dict[str, int]:
    """What the page says it shows: receivers, sessions, fixes and ellipses; all 0 before it says so."""
    text: str = driver.execute_script("return document.querySelector('.map-counts')?.textContent ?? ''")
    said = {name: int(count) for count, name in (part.split() for part in text.split(" · ") if part)}
    return {"receivers": 0, "sessions": 0, "fixes": 0, "ellipses": 0} | said


def results_told(driver: webdriver.Chrome) -> int | None:
    """How many results and errors the page says it has heard of; None while it hears of none."""
    text: str = driver.execute_script("return document.querySelector('.map-link')?.textContent ?? ''")
    found = _TOLD.search(text)
    return int(found[1]) + int(found[2]) if found else None


def until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Wait until something is so; whether it is."""
    deadline = time.monotonic() + timeout_s
    while not (so := condition()) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return so


def screenshot(driver: webdriver.Chrome, path: Path) -> None:
    """Save what is seen."""
    path.parent.mkdir(parents=True, exist_ok=True)
    driver.save_screenshot(str(path))
