"""What the harness relies on of every peer, and how jobs and answers travel between bridge and servers."""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import orjson
import pytest

from bench.peers import PEERS, Peer, PeerUnavailable, RunSettings
from bench.peers.dialects import (
    BINARY_HEADER,
    DIALECTS,
    pack_answer,
    pack_job,
    unpack_answer,
    unpack_job,
)
from bench.peers.environment import LOCK, constrained, install, without_addresses
from bench.peers.outcomes import PeerSettings
from bench.recipe import Answer, RawJob

BY_NAME = {peer.name: peer for peer in PEERS}
SERVING = [peer for peer in PEERS if peer.kind == "serving"]
JOB = RawJob("job-1", '{"global": {"core:description": "è\\n"}}', bytes(range(256)) * 3)
ANSWER = Answer(b'{"position":1,"text":"a\\nb"}', b'{"event":"e","data":{"position":1}}')
PROMISED = {
    "queue": {"aio_pika_rpc", "faststream", "celery_batches", "taskiq"},
    "serving": {"mosec", "litserve", "bentoml", "mlserver", "ray_serve", "pytriton"},
}


@pytest.fixture
def settings(tmp_path: Path) -> RunSettings:
    """Of some run."""
    return RunSettings(
        amqp_url="amqp://broker/",
        redis_url="redis://store/0",
        queue="jobs",
        events_exchange="events",
        model=tmp_path / "model.onnx",
        max_batch=16,
        window_ms=2.5,
        threads=2,
    )


@pytest.fixture(params=PEERS, ids=lambda peer: peer.name)
def peer(request: pytest.FixtureRequest) -> Peer:
    """Each of them."""
    return request.param


def test_every_peer_is_there_once() -> None:
    """The registry has every peer that the comparison promises, each under its kind."""
    assert {kind: {peer.name for peer in PEERS if peer.kind == kind} for kind in PROMISED} == PROMISED
    assert len(BY_NAME) == len(PEERS)


def test_requirements_are_pinned_and_name_no_host(peer: Peer) -> None:
    """A peer's requirements start from the common ones, and give a version of everything, from no address."""
    first, *own = (peer.directory / "requirements.txt").read_text().splitlines()
    assert first == "-r ../recipe.txt"
    assert all(re.fullmatch(r"[a-z-]+(\[[a-z]+\])?(==[\d.]+)", line) for line in own)


def test_programs_exist(peer: Peer) -> None:
    """A peer's directory holds a program beside its requirements."""
    assert list(peer.directory.glob("*.py"))


def test_settings_say_why(peer: Peer) -> None:
    """The report gets settings in words of every peer."""
    assert peer.settings
    assert all(name and len(reason) > 1 for name, reason in peer.settings.items())


def test_processes_are_told_what_the_run_is(peer: Peer, settings: RunSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every process of a peer reads from its environment exactly what the run was given."""
    for variables in _environments(peer, settings):
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            told = PeerSettings.from_environment()
        assert (told.amqp_url, told.redis_url, told.queue) == ("amqp://broker/", "redis://store/0", "jobs")
        assert (told.max_batch, told.window_ms, told.threads, told.prefetch) == (16, 2.5, 2, 64)
        assert told.model == settings.model


@pytest.mark.parametrize("peer", SERVING, ids=lambda peer: peer.name)
def test_a_serving_peer_is_a_server_and_the_bridge(peer: Peer, settings: RunSettings) -> None:
    """A serving peer is a server on a loopback port, and the one bridge that speaks its dialect to that port."""
    server, bridge = peer.commands(settings)
    assert bridge.argv[1:] == ("-m", "bench.peers.bridge")
    assert DIALECTS[bridge.env["DIALECT"]] is DIALECTS[peer.name]
    assert bridge.env["SERVER_URL"] == f"http://127.0.0.1:{server.env['PORT']}"
    assert server.argv[3] == bridge.env["SERVER_URL"] + bridge.env["HEALTH_PATH"]


def test_servers_keep_their_ports_and_share_none(settings: RunSettings) -> None:
    """A server started again is where it was, and no other server is there."""
    ports = [[peer.commands(settings)[0].env["PORT"] for peer in SERVING] for _ in range(2)]
    assert ports[0] == ports[1]
    assert len(set(ports[0])) == len(SERVING)


def test_jobs_are_published_as_they_are(peer: Peer) -> None:
    """A job reaches every peer under its id with the same metadata and bytes, whatever protocol carries them."""
    wire = peer.encode(JOB)
    assert wire.properties["message_id"] == JOB.job_id
    assert _carried(peer, wire.body, wire.headers) == (JOB.sigmf, JOB.body)


def test_frames_carry_jobs_whole() -> None:
    """A job comes out of a frame as it went in, its metadata as bytes."""
    assert unpack_job(pack_job(JOB)) == JOB._replace(sigmf=JOB.sigmf.encode())
    assert unpack_job(pack_job(JOB._replace(body=b""))).body == b""


def test_lines_carry_answers_whole() -> None:
    """An answer comes out of its two lines as it went in."""
    assert unpack_answer(pack_answer(ANSWER)) == ANSWER


def test_triton_is_asked_in_its_binary_form() -> None:
    """The header says how long the JSON and each tensor is, and what is left is the dataset as it was."""
    request = DIALECTS["pytriton"].ask(JOB)
    split = int(request.headers[BINARY_HEADER])
    head, body = orjson.loads(request.body[:split])["inputs"]
    head_bytes = head["parameters"]["binary_data_size"]
    assert request.body[split + head_bytes :] == JOB.body
    assert body["shape"] == [1, len(JOB.body)]
    assert len(request.body) == split + head_bytes + body["parameters"]["binary_data_size"]


@pytest.mark.parametrize(
    ("name", "body", "headers"),
    [
        ("mosec", pack_answer(ANSWER), {}),
        ("bentoml", orjson.dumps([pack_answer(ANSWER).decode()]), {}),
        ("mlserver", orjson.dumps({"outputs": [{"data": [pack_answer(ANSWER).decode()]}]}), {}),
        ("pytriton", b"{}" + b"\0\0\0\0" + pack_answer(ANSWER), {BINARY_HEADER: "2"}),
    ],
)
def test_answers_are_read_from_every_form(name: str, body: bytes, headers: Mapping[str, str]) -> None:
    """The same answer comes out of each server's own form of response."""
    assert DIALECTS[name].read(body, headers) == ANSWER


def test_constraints_come_from_the_lock_file() -> None:
    """What computes has the project's own version in every peer's environment; what a peer alone uses has none."""
    lock = "numpy==2.4.6 \\\n    --hash=sha256:00\nredis[hiredis]==8.1.0 \\\nhiredis==3.5.0\nother==1\n"
    assert constrained("# why\nnumpy>=2\nredis[hiredis]>=6\nabsent\n", lock) == [
        "numpy==2.4.6",
        "redis==8.1.0",
        "hiredis==3.5.0",
    ]


def test_the_lock_file_pins_what_computes() -> None:
    """The features and the model are computed by one version of each library, in the worker and in every peer."""
    pinned = {line.partition("==")[0] for line in constrained("numpy\nscipy\nonnxruntime\norjson\n", LOCK.read_text())}
    assert {"numpy", "scipy", "onnxruntime", "orjson"} <= pinned


def test_reasons_name_no_address() -> None:
    """What an installer said is the reason without the addresses it asked."""
    assert without_addresses("one\n\nCould not fetch https://mirror.invalid/simple/x: no\n") == (
        "one Could not fetch (address) no"
    )


def test_what_cannot_be_installed_says_so(tmp_path: Path) -> None:
    """Requirements that nobody can meet make the peer unavailable, with the installer's reason."""
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"-r {tmp_path / 'absent.txt'}\n")
    with pytest.raises(PeerUnavailable, match=r"absent\.txt"):
        install(tmp_path / "venv", requirements)


def _environments(peer: Peer, settings: RunSettings) -> list[Mapping[str, str]]:
    return [command.env for command in peer.commands(settings)]


def _carried(peer: Peer, body: bytes, headers: Mapping[str, object]) -> tuple[object, bytes]:
    if peer.name == "celery_batches":
        _, arguments, _ = pickle.loads(body)
        return arguments["sigmf"], arguments["body"]
    if peer.name == "taskiq":
        arguments = pickle.loads(body)["kwargs"]
        return arguments["sigmf"], arguments["body"]
    return headers["sigmf"], body
