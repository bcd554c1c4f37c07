"""Real recordings in at one end of the command line, their results out at the other."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.local.process import OwnedProcess
from tests.support.models import write_model
from tests.support.rfc7946 import assert_finite
from tests.support.station import PATIENCE_S, Station

WINDOW_S = 0.2
COMMON_START = "2020-08-13T06:52:20.812462671Z"
"""Of the three streams: from here on all were recording."""


@pytest.fixture
def any_place_station(own_station: Station, tmp_path: Path) -> Station:
    """A station whose model takes any place and any rate."""
    own_station.registry.register(write_model(tmp_path / "any.onnx", sample_rate=None, area=None))
    own_station.worker()
    return own_station


@contextmanager
def heimdall(folder: Path, url: str, *arguments: object) -> Iterator[OwnedProcess]:
    """A running command; what it prints goes to its log."""
    line = [sys.executable, "-m", "client.cli", *map(str, arguments), "--url", url]
    process = OwnedProcess(
        str(arguments[0]), line, {"PATH": "/usr/bin", "COLUMNS": "200"}, folder / f"{arguments[0]}.log"
    )
    process.start()
    try:
        yield process
    finally:
        process.stop()


def features(text: str) -> list[dict[str, object]]:
    """The texts of an RFC 8142 sequence."""
    return [json.loads(one) for one in text.split("\x1e")[1:]]


def test_every_window_of_the_kiwi_collection_comes_out_as_a_fix(
    recordings: Path, any_place_station: Station, tmp_path: Path
) -> None:
    """Three receivers, aligned, brought to one rate, cut into 200 ms: a fix for each window, and each once."""
    url = any_place_station.amqp_url
    collection = recordings / "kiwi-dcf77-2020" / "dcf77.sigmf-collection"
    windows = 147
    following = ("follow", "--session", "dcf77", "--geojson-seq", "--count", windows, "--timeout", 2 * PATIENCE_S)
    with heimdall(tmp_path, url, *following) as follow:
        follow.wait_ready(lambda: "Ctrl-C ends" in follow.log.read_text(), PATIENCE_S, "following")
        with heimdall(
            tmp_path, url, "publish", collection, "--window-ms", WINDOW_S * 1000, "--ask", PATIENCE_S
        ) as publish:
            assert publish.wait(2 * PATIENCE_S) == 0, publish.log_tail()
        assert follow.wait(2 * PATIENCE_S) == 0, follow.log_tail()
    assert f"published: jobs={windows} in" in publish.log.read_text()
    fixes = [one for one in features(_sequence(follow.log)) if one["properties"]["kind"] == "fix"]  # type: ignore[index]
    times = {one["properties"]["capture_time"] for one in fixes}  # type: ignore[index]
    assert len(fixes) == len(times) == windows
    assert min(times) == COMMON_START
    assert_finite(fixes)


def _sequence(log: Path) -> str:
    """What went to standard output; the remarks of standard error are lines without a record separator."""
    return "".join(line for line in log.read_text().split("\n") if line.startswith("\x1e"))
