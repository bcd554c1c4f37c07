"""A registry whose entries are hostile: what it may make a worker fetch and load, which is nothing."""

import asyncio
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto

from tests.support.models import tone, write_model
from tests.support.station import Publisher, Station, command, publisher
from worker.serving.loading import file_digest
from worker.serving.registry import DIGEST_TAG


@pytest.fixture
def visited() -> Iterator[list[str]]:
    """Paths that were asked of a web server; the first element is its address."""
    asked: list[str] = []

    class Note(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Note)
    asked.append(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield asked
    server.shutdown()
    thread.join()
    server.server_close()


def with_symlink(directory: Path) -> Path:
    """A model that is a link to somebody else's file."""
    (directory / "model.onnx").symlink_to("/etc/passwd")
    return directory


def with_two_models(directory: Path) -> Path:
    """Two graphs, so that the digest says nothing of one of them."""
    write_model(directory / "model.onnx")
    shutil.copy(directory / "model.onnx", directory / "other.onnx")
    return directory


def with_linked_contract(directory: Path) -> Path:
    """A contract that is a link to somebody else's file."""
    write_model(directory / "model.onnx")
    (directory / "contract.json").symlink_to("/etc/passwd")
    return directory


def with_external_data(directory: Path) -> Path:
    """Weights that lie in a file beside the model, which no digest covers."""
    path = write_model(directory / "model.onnx")
    model = onnx.load(path)
    weights = next(i for i in model.graph.initializer if i.name == "factor")
    (directory / "secrets.bin").write_bytes(weights.raw_data)
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    location = weights.external_data.add()
    location.key, location.value = "location", "secrets.bin"
    path.write_bytes(model.SerializeToString())
    return directory


def with_pickles(directory: Path) -> Path:
    """What a careless loader would run, and no graph."""
    (directory / "model.pkl").write_bytes(f"cos\nsystem\n(S'touch {directory}/was-here'\ntR.".encode())
    (directory / "MLmodel").write_text("flavors:\n  python_function:\n    loader_module: os\n")
    return directory


FILES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a link to another file": (with_symlink, "outside the artifact directory"),
    "two graphs": (with_two_models, "2 .onnx files"),
    "a contract that is a link": (with_linked_contract, "outside the artifact directory"),
    "external data": (with_external_data, "xternal data"),
    "pickles": (with_pickles, "0 .onnx files"),
}


def files_in(directory: Path) -> list[Path]:
    """All files below."""
    return list(directory.rglob("*"))


async def refused(jobs: Publisher, station: Station, source: str, digest: str) -> str:
    """What the worker says when production points to a version with this source; the version before still serves."""
    client = station.registry._client()

    def register() -> str:
        made = client.create_model_version("heimdall", source, tags={DIGEST_TAG: digest})
        client.set_registered_model_alias("heimdall", "production", made.version)
        return str(made.version)

    version = await asyncio.to_thread(register)
    reply = await command(jobs, command="reload", expect=version)
    assert reply["ok"] is False
    assert [served["version"] for served in reply["serving"]] == ["1"]  # type: ignore[attr-defined]
    answer = await jobs.locate(tone(1))
    assert answer.json["model_version"] == "1"
    return str(reply["detail"])


async def test_sources_that_lead_elsewhere(own_station: Station, visited: list[str], tmp_path: Path) -> None:
    """Other web servers are not asked, directories without a model give none, and paths do not climb."""
    own_station.worker()
    server = visited[0]
    sources = {
        f"{server}/model": "files come from the registry",
        f"{server.replace('http', 'HTTP')}/model": "files come from the registry",
        "ftp://op:c4nary@127.0.0.1/model": "scheme 'ftp'",
        "file:///etc": "0 .onnx files",
        f"file://{tmp_path}/../../etc": "climbs",
        f"{tmp_path}/%2e%2e/x": "climbs",
    }
    async with publisher(own_station.amqp_url) as jobs:
        for source, said in sources.items():
            detail = await refused(jobs, own_station, source, "sha256:0")
            assert said in detail, (source, detail)
            assert "c4nary" not in detail
    assert visited[1:] == []


async def test_files_that_are_not_what_they_seem(own_station: Station, tmp_path: Path) -> None:
    """Links, second graphs, external data, pickles: refused though the digest is right; nothing is shown or run."""
    worker = own_station.worker()
    async with publisher(own_station.amqp_url) as jobs:
        for number, (make, said) in enumerate(FILES.values()):
            directory = tmp_path / str(number)
            directory.mkdir()
            make(directory)
            graph = directory / "model.onnx"
            digest = file_digest(graph) if graph.exists() else "sha256:0"
            detail = await refused(jobs, own_station, directory.as_uri(), digest)
            assert said in detail, (make.__name__, detail)
    assert "root:" not in worker.log_text()
    assert not any(name.name == "was-here" for name in files_in(tmp_path))


async def test_a_job_names_no_model(shared_station: Station, visited: list[str]) -> None:
    """Paths and addresses in a job's fields, headers or id fetch nothing and choose nothing."""
    address = f"{visited[0]}/model.onnx"
    async with publisher(shared_station.amqp_url) as jobs:
        body = f'{{"iq_data": [[0, 1]], "model": "{address}"}}'.encode()
        assert (await jobs.locate(body, content_type="application/json")).code == "malformed_metadata"
        assert (await jobs.locate(b"x", job_id=address)).code == "malformed_envelope"
        for name in ("model", "model_version", "heimdall.model", "source"):
            headers = {name: address, "session_id": "../../models/2"}
            answer = await jobs.locate(tone(1), headers=headers)
            assert answer.json["model_version"] == "1"
        for expect in ("../../2", address, "2; rm -rf /"):
            reply = await command(jobs, command="reload", expect=expect)
            assert reply["ok"] is False
    assert visited[1:] == []
