"""What a worker says at its start: of settings, before it looks for any server, and of a server that refuses it."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest

from deploy.local import Broker
from tests.support.station import PATIENCE_S, Station

ROOT = Path(__file__).parents[2]
NOBODY = "127.0.0.1:9"


@pytest.fixture(scope="module")
def taken() -> Iterator[str]:
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield str(listener.getsockname()[1])


def started(**settings: str) -> subprocess.CompletedProcess[str]:
    """A start that is refused, and what came of it."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("HEIMDALL_")}
    away = {
        "AMQP_URL": f"amqp://{NOBODY}/",
        "REDIS_URL": f"redis://{NOBODY}/0",
        "MLFLOW_TRACKING_URI": f"http://{NOBODY}",
    }
    given = {f"HEIMDALL_{name}": value for name, value in (away | settings).items()}
    command = [sys.executable, "-m", "worker"]
    return subprocess.run(command, env=ours | given, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


def events(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """Its log; fails where a line is no JSON."""
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_settings_that_do_not_fit_each_other() -> None:
    """The line names the variables to change, and nothing of the library's words."""
    done = started(PREFETCH_COUNT="5", HTTP_PORT="0")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("heimdall-worker: HEIMDALL_PREFETCH_COUNT 5 is less than 4 x HEIMDALL_MAX_BATCH_SIZE 32: ")


def test_each_setting_that_does_not_fit_has_its_line() -> None:
    """All of them at once."""
    done = started(MLFLOW_TRACKING_URI="", REDIS_URL="redis://127.0.0.1/0?foo=bar", MAX_BATCH_SIZE="0")
    assert done.returncode == 2
    starts = [" ".join(line.split()[:2]) for line in done.stderr.splitlines()]
    names = ("REDIS_URL", "MLFLOW_TRACKING_URI", "MAX_BATCH_SIZE")
    assert starts == [f"heimdall-worker: HEIMDALL_{name}:" for name in names]
    assert "Value error" not in done.stderr


def test_a_misspelt_variable_is_warned_of(taken: str) -> None:
    """A start goes on without it: other programs may use the prefix."""
    warning, *_ = events(started(PREFETCH="256", HTTP_PORT=taken))
    assert (warning["event"], warning["level"]) == ("settings.unknown", "warning")
    assert (warning["variable"], warning["resembles"]) == ("HEIMDALL_PREFETCH", "HEIMDALL_PREFETCH_COUNT")


@pytest.mark.parametrize("host", ["127.0.0.1", "1.2.3.4", "nobody.invalid", "a..b"])
def test_an_http_address_that_cannot_be_listened_on(host: str, taken: str) -> None:
    """Taken, another machine's, unknown, no name at all: one line that names the variables, and exit code 2."""
    done = started(HTTP_HOST=host, HTTP_PORT=taken)
    assert done.returncode == 2
    (line,) = events(done)
    assert (line["event"], line["level"]) == ("settings.refused", "critical")
    assert f"HEIMDALL_HTTP_HOST '{host}', HEIMDALL_HTTP_PORT {taken}: " in line["error"]


def test_every_line_is_json_while_the_broker_refuses(broker: Broker) -> None:
    """Also what Python says of a coroutine that the library forgets then."""
    url = urlsplit(broker.url)
    wrong = urlunsplit(url._replace(netloc=f"nobody:wrong@{url.hostname}:{url.port or 5672}"))
    worker = Station(wrong, f"redis://{NOBODY}/0", f"http://{NOBODY}").unready_worker(HEIMDALL_LOG_LEVEL="INFO")
    try:
        worker.start()
        deadline = time.monotonic() + PATIENCE_S
        while worker.log_text().count('"broker.unavailable"') < 3:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        worker.terminate()
        assert worker.wait(PATIENCE_S) == 0
        said = [json.loads(line) for line in worker.log_text().splitlines()]
    finally:
        worker.close()
    assert any("ACCESS_REFUSED" in line.get("error", "") for line in said)
