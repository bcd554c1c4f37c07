"""`heimdall locate` as a user runs it, against a real broker and a worker that answers as told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import numpy as np
import orjson
import pytest
from click.testing import Result
from typer.testing import CliRunner

from client.cli import app
from schemas.problems import ErrorCode
from tests.unit.client.fakes import FakeWorker, batch_result, fake_worker, problem, rate_mismatch, result

IQ = bytes(range(200)) * 10

Locate = Callable[..., Awaitable[Result]]


@pytest.fixture
async def worker(amqp_url: str) -> AsyncIterator[FakeWorker]:
    """A worker that locates everything in Torino."""
    async with fake_worker(amqp_url) as running:
        yield running


@pytest.fixture
def locate(amqp_url: str) -> Locate:
    """Run `heimdall locate` with the given arguments beside the test's loop."""

    async def run(*arguments: object) -> Result:
        line = ["locate", *map(str, arguments)]
        environment = {"HEIMDALL_AMQP_URL": amqp_url, "COLUMNS": "120"}
        return await asyncio.to_thread(CliRunner().invoke, app, line, env=environment)

    return run


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A thousand samples of cu8."""
    path = tmp_path / "door.cu8"
    path.write_bytes(IQ)
    return path


async def test_prints_a_readable_answer(locate: Locate, worker: FakeWorker, recording: Path) -> None:
    """Position, ellipse, model, receivers and flags are on standard output, remarks on standard error."""
    ran = await locate(recording, "--rate", "2.4M", "--freq", "433.92M", "--rx", "Torino=45.044,7.672,250")
    assert ran.exit_code == 0, ran.output
    for shown in ("45.044000° N 7.672000° E", "45°02\u203238.4\u2033 N", "2.41 km", "95 %", "31°", "demo version 3"):
        assert shown in ran.stdout
    assert "Genova (too weak)" in ran.stdout
    assert "few receivers" in ran.stdout
    assert "taken for cu8" in ran.stderr
    metadata = orjson.loads(str(worker.jobs[0].headers["sigmf"]))
    assert metadata["global"]["core:sample_rate"] == 2.4e6
    assert metadata["captures"][0]["core:frequency"] == 433.92e6
    assert metadata["global"]["heimdall:receivers"][0]["geolocation"]["coordinates"] == [7.672, 45.044, 250.0]
    assert worker.jobs[0].body == IQ


async def test_geojson_of_several_files_is_one_collection(locate: Locate, worker: FakeWorker, recording: Path) -> None:
    """Standard output is GeoJSON and nothing else."""
    second = recording.with_name("gate.cu8")
    second.write_bytes(IQ)
    ran = await locate(recording, second, "--rate", "2.4M", "--geojson")
    collection = orjson.loads(ran.stdout)
    assert ran.exit_code == 0
    assert (collection["type"], len(collection["features"])) == ("FeatureCollection", 2)


async def test_error_answer_says_what_to_do(locate: Locate, worker: FakeWorker, recording: Path) -> None:
    """A problem is printed with title, detail and remedy, and the exit code is 1."""
    worker.answer = lambda message: problem(message.message_id or "", ErrorCode.TOO_FEW_SAMPLES)
    ran = await locate(recording, "--rate", "2.4M")
    assert (ran.exit_code, ran.stdout) == (1, "")
    for shown in ("door.cu8: The recording is shorter", "what was wrong with it", "Record longer", "too_few_samples"):
        assert shown in ran.stderr


async def test_json_prints_a_line_per_answer(locate: Locate, worker: FakeWorker, recording: Path) -> None:
    """Results and problems alike are lines of JSON, so that a script sees every file."""
    worker.answer = lambda message: (
        problem(message.message_id or "", ErrorCode.INTERNAL)
        if len(message.body) == 4
        else result(message.message_id or "")
    )
    short = recording.with_name("short.cu8")
    short.write_bytes(b"\x80" * 4)
    ran = await locate(recording, short, "--rate", "2.4M", "--json")
    lines = [orjson.loads(line) for line in ran.stdout.splitlines()]
    assert ran.exit_code == 1
    assert "position" in lines[0]
    assert lines[1]["code"] == "internal"


async def test_batch_recording_prints_every_sample(locate: Locate, worker: FakeWorker, tmp_path: Path) -> None:
    """A recording that names its samples is a batch job; each prediction and problem is shown."""
    worker.answer = lambda message: batch_result(message.message_id or "", 2)
    samples = [{"sample_start": 0, "sample_count": 5}, {"sample_start": 5, "sample_count": 5}]
    info = {"core:datatype": "ci8", "core:sample_rate": 1e6, "core:version": "1.2.0", "heimdall:samples": samples}
    (tmp_path / "two.sigmf-meta").write_bytes(orjson.dumps({"global": info, "captures": [], "annotations": []}))
    (tmp_path / "two.sigmf-data").write_bytes(b"\x01" * 20)
    ran = await locate(tmp_path / "two.sigmf-meta")
    assert "two[0]" in ran.stdout
    assert "two[1]: The IQ holds NaN" in ran.stdout


async def test_resamples_when_the_worker_names_its_rate(locate: Locate, worker: FakeWorker, tmp_path: Path) -> None:
    """A recording at another rate is brought to the model's, and that is said."""
    worker.answer = lambda message: (
        rate_mismatch(message.message_id or "", 48e3) if len(worker.jobs) == 1 else result(message.message_id or "")
    )
    np.save(tmp_path / "iq.npy", np.ones((2, 500), dtype=np.complex64))
    ran = await locate(tmp_path / "iq.npy", "--rate", "50k")
    assert ran.exit_code == 0, ran.output
    assert "the model takes 48000 S/s, not 50000" in ran.stderr
    assert len(worker.jobs[1].body) == 2 * 480 * 8


async def test_no_worker_is_a_timeout(locate: Locate, worker: FakeWorker, recording: Path) -> None:
    """No answer ends with exit code 3 and the job's id."""
    worker.answer = lambda _: None
    ran = await locate(recording, "--rate", "2.4M", "--timeout", 0.3, "--job-id", "lost")
    assert (ran.exit_code, ran.stdout) == (3, "")
    assert "no answer to job lost" in ran.stderr


async def test_no_broker_is_said_once(locate: Locate, recording: Path) -> None:
    """An unreachable broker is exit code 3 and shows the URL without its password."""
    ran = await locate(recording, "--rate", "1M", "--url", "amqp://me:s3cret@localhost:1/", "--timeout", 0.5)
    assert ran.exit_code == 3
    assert "amqp://me@localhost:1/" in ran.stderr
    assert "s3cret" not in ran.output
