"""Every command of docs/quickstart.md, and those of docs/operations.md that are marked, run against a real worker."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deploy.local import Broker, RedisServer
from tests.support.stack import fresh_database, fresh_vhost
from tests.support.station import Station, station
from tests.support.worlds import copied_registry

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(
    r"<!-- run: (?P<name>[^,>]+?)(?P<endless>, until Ctrl-C)? -->\n```(?P<kind>sh|python)\n(?P<text>.*?)```", re.DOTALL
)
PAGES = ("docs/quickstart.md", "docs/operations.md")
BLOCKS = [match.groupdict() for page in PAGES for match in BLOCK.finditer((ROOT / page).read_text(encoding="utf-8"))]
SAID = {
    "publish": r"published: jobs=\d+ in",
    "collection": r"published: jobs=5 in .* session drive",
    "raw": r"jobs=3 in .* session door\n(.*\n)*published: jobs=2 in .* session pair",
    "journal": r"jobs=5 in(.*\n)*published: jobs=0, 5 confirmed before",
    "watch": r"published: jobs=5 in .* session late",
    "claims": r"published: jobs=1 in",
    "program": r"\w+ 5\n",
    "follow": r"captured +session(.*\n)*.*followed: fixes=\d+",
    "pipes": r"(followed: fixes=\d+ failures=0\n?){1}",
    "follow in python": r"latitude=",
    "locate": r"job +scene-1(.*\n)*.*job +scene-1",
    "plain": r"68% within \d+ m x \d+ m",
    "roll out": r"may serve: (.*\n)*canary 2 at 10 %: 1 of 1 workers agree\n(.*\n)*promote 2: 1 of 1 workers agree",
    "roll back": r"production is version 1, was 2\n(.*\n)*rollback: 1 of 1 workers agree",
    "look": r"heimdall\.dead +\d+(.*\n)*.*production 1 +serving",
    "mend": r"too_few_samples\)(.*\n)*1 of \d+ dead letters\n(.*\n)*reproduced: .*\n(.*\n)*1 dropped",
    "commands": r"'version': '1'",
    "read with curl": r"'heimdall-code': 'too_few_samples'",
    "read with aio-pika": r"'too_few_samples'.* 6 bytes of application/octet-stream",
}
"""What each must print."""
SHORT = "heimdall locate --sample-rate 48k --freq 433.92M --rx Roof=45.044,7.672,250 short.cu8"
"""Leaves a dead letter."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader would be, with the files that the page names."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "examples").symlink_to(ROOT / "examples")
    (folder / "large").mkdir()
    (folder / "incoming").mkdir()
    rng = np.random.default_rng(1)
    (folder / "door.cu8").write_bytes(rng.integers(0, 256, 2 * 48 * 170, dtype=np.uint8).tobytes())
    noise = rng.normal(0, 0.1, (2, 48 * 100)) + 1j * rng.normal(0, 0.1, (2, 48 * 100))
    np.save(folder / "pair.npy", noise.astype(np.complex64))
    for number, name in enumerate(("roof", "hill")):
        write_stream(folder, name, rng, number)
    collection = {"collection": {"core:streams": [{"name": "roof"}, {"name": "hill"}]}}
    (folder / "drive.sigmf-collection").write_text(json.dumps(collection))
    (folder / "receivers.geojson").write_text(
        json.dumps({"type": "FeatureCollection", "features": [place(0), place(1)]})
    )
    return folder


def place(number: int) -> dict[str, object]:
    """A receiver's place."""
    point = {"type": "Point", "coordinates": [7.6 + 0.1 * number, 45.05]}
    return {"type": "Feature", "id": f"rx{number}", "geometry": point, "properties": {}}


def write_stream(folder: Path, name: str, rng: np.random.Generator, number: int) -> None:
    """1.05 s of noise that begin a fraction of a sample apart, at rates of their own."""
    rate = 48_000 + 0.5 * number
    info = {"core:datatype": "ci16_le", "core:sample_rate": rate, "core:version": "1.2.5"}
    capture = {
        "core:sample_start": 0,
        "core:frequency": 433.92e6,
        "core:datetime": f"2026-01-01T12:00:00.00000{number}789Z",
        "core:geolocation": place(number)["geometry"],
    }
    meta = {"global": info, "captures": [capture], "annotations": []}
    (folder / f"{name}.sigmf-meta").write_text(json.dumps(meta))
    (folder / f"{name}.sigmf-data").write_bytes(rng.integers(-3000, 3000, 2 * 50_400, dtype=np.int16).tobytes())


@pytest.fixture(scope="module")
def reader(
    broker: Broker,
    redis_server: RedisServer,
    folder: Path,
    registry_file: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Station]:
    """A world with one worker, whose operator allows references to the reader's folder."""
    with (
        fresh_vhost(broker) as amqp_url,
        fresh_database(redis_server) as redis_url,
        station(amqp_url, redis_url, copied_registry(registry_file, tmp_path_factory.mktemp("registry"))) as it,
    ):
        it.worker(HEIMDALL_CLAIM_SOURCES=f"file://{folder}/large", HEIMDALL_MEMORY_BUDGET_BYTES=str(2**31))
        yield it


def test_every_block_is_told_what_it_must_print() -> None:
    """No block is left out, and none is expected that is gone."""
    assert {block["name"] for block in BLOCKS} == set(SAID)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block["name"])
def test_it_runs_as_it_is_written(block: dict[str, str], reader: Station, broker: Broker, folder: Path) -> None:
    """The block ends with 0, by itself or by Ctrl-C, and prints what it should."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "200",
        "HEIMDALL_AMQP_URL": reader.amqp_url,
        "HEIMDALL_REDIS_URL": reader.redis_url,
        "HEIMDALL_MLFLOW_TRACKING_URI": reader.tracking_uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MANAGEMENT_URL": broker.management_url,
        "VHOST": reader.amqp_url.rsplit("/", 1)[-1],
    }
    if block["name"] == "read with curl":
        refused = subprocess.run(SHORT.split(), cwd=folder, env=environment, check=False, capture_output=True)
        assert b"too_few_samples" in refused.stderr, refused
    line = ["bash", "-euc", block["text"]] if block["kind"] == "sh" else [sys.executable, "-uc", block["text"]]
    if block["endless"] and block["kind"] == "sh":
        line[2] = f"exec {block['text']}"  # So that Ctrl-C reaches the command.
    log = folder / f"{block['name']}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(line, cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT)
    try:
        if block["endless"]:
            keep_busy(block["name"], folder, environment, log)
            process.send_signal(signal.SIGINT)
        code = process.wait(120)
    finally:
        process.kill()
        process.wait()
    said = log.read_text()
    assert re.search(SAID[block["name"]], said), said
    assert code == 0 or (block["kind"] == "python" and "KeyboardInterrupt" in said), said


def keep_busy(name: str, folder: Path, environment: dict[str, str], log: Path) -> None:
    """Give a command that runs until it is interrupted something to hear of, until it has."""
    if name == "watch":
        write_stream(folder / "incoming", "late", np.random.default_rng(2), 0)
    journal = folder / "incoming.journal"
    heard = {"watch": lambda: journal.exists() and journal.read_text().count("\n") == 6}
    scene = [sys.executable, "-m", "client.cli", "locate", "examples/scene.sigmf-meta"]
    ends = time.monotonic() + 90
    while not heard.get(name, lambda: "lat" in log.read_text())():
        assert time.monotonic() < ends, log.read_text()
        if name == "watch":
            time.sleep(0.2)
        else:
            subprocess.run(scene, cwd=folder, env=environment, check=True, capture_output=True)
