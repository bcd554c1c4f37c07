"""Versions that must not serve, each failing at another step: the one before serves on, and the answer says why."""

import asyncio
import json
import random
import string
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import aio_pika
import numpy as np
import onnx
import pytest
from mlflow.tracking import MlflowClient
from onnx import helper, numpy_helper

from tests.support.deadly import sitecustomize as deadly
from tests.support.metrics import value
from tests.support.models import tone, write_model
from tests.support.station import Publisher, Station, command, publisher
from worker.serving.registry import DIGEST_TAG

SLOW_STEPS = 2_000_000_000


def corrupt(path: Path) -> None:
    """Cut the file short."""
    path.write_bytes(path.read_bytes()[:-200])


def wrong_shape(path: Path) -> None:
    """Let the graph take another number of mel bands than the contract feeds."""
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 17
    onnx.save(model, path)


def external_data(path: Path) -> None:
    """Let a weight lie in another file."""
    model = onnx.load(path)
    weight = numpy_helper.from_array(np.zeros(64, np.float32), "elsewhere")
    onnx.external_data_helper.set_external_data(weight, "weights.bin", 0, 256)
    weight.ClearField("raw_data")
    model.graph.initializer.append(weight)
    model.graph.node.append(helper.make_node("Identity", ["elsewhere"], ["unused"]))
    path.write_bytes(model.SerializeToString())


def nan_output(path: Path) -> None:
    """Let every position be no number."""
    model = onnx.load(path)
    for initializer in model.graph.initializer:
        if initializer.name == "origin":
            initializer.CopyFrom(numpy_helper.from_array(np.full((1, 2), np.nan, np.float32), "origin"))
    onnx.save(model, path)


def slow(path: Path) -> None:
    """Let each run take minutes: a loop that counts."""
    model = onnx.load(path)
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["condition_in"], ["condition_out"]),
            helper.make_node("Add", ["carried_in", "one"], ["carried_out"]),
        ],
        "count",
        [
            helper.make_tensor_value_info("step", onnx.TensorProto.INT64, []),
            helper.make_tensor_value_info("condition_in", onnx.TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried_in", onnx.TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("condition_out", onnx.TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried_out", onnx.TensorProto.FLOAT, []),
        ],
    )
    constants = {"steps": np.int64(SLOW_STEPS), "go_on": np.bool_(True), "zero_": np.float32(0), "one": np.float32(1)}
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items())
    model.graph.node.insert(0, helper.make_node("Loop", ["steps", "go_on", "zero_"], ["counted"], body=body))
    nothing = helper.make_node("Mul", ["counted", "zero_"], ["nothing_more"])
    model.graph.node.insert(1, nothing)
    for node in model.graph.node:
        if node.output[0] == "position":
            node.output[0] = "position_before"
    model.graph.node.append(helper.make_node("Add", ["position_before", "nothing_more"], ["position"]))
    shape_first = [node for node in model.graph.node if node.op_type in {"Shape", "Expand"}]
    for node in shape_first:
        model.graph.node.remove(node)
    model.graph.node.extend(shape_first)
    onnx.save(model, path)


def untouched(_: Path) -> None:
    """Leave the file as it is."""


BAD: dict[str, tuple[Callable[[Path], None], dict[str, float], str]] = {
    "corrupt file": (corrupt, {}, "cannot load"),
    "wrong shape": (wrong_shape, {}, "axis mel is 17"),
    "external data": (external_data, {}, "cannot load"),
    "no number": (nan_output, {}, "golden[0], output position"),
    "wrong golden vector": (untouched, {"golden_error": 0.5}, "golden[0], output position"),
    "too slow": (slow, {}, "did not load and prove itself within 5 s"),
}


async def steady(jobs: Publisher, enough: asyncio.Event) -> list[str]:
    """Publish until enough; correlation ids."""
    sent = []
    while not enough.is_set():
        sent.append(await jobs.publish(tone(len(sent), n=600)))
        await asyncio.sleep(0.01)
    return sent


async def refused(station: Station, jobs: Publisher) -> str:
    """Reload under load; all jobs are answered by version 1, and the reason of the refusal is returned."""
    enough = asyncio.Event()
    load = asyncio.create_task(steady(jobs, enough))
    reply = await command(jobs, command="reload")
    enough.set()
    answers = [await jobs.reply(correlation_id) for correlation_id in await load]
    assert {(answer.code, answer.json.get("model_version")) for answer in answers} == {(None, "1")}
    assert reply["ok"] is False
    assert [served["version"] for served in reply["serving"]] == ["1"]  # type: ignore[index, attr-defined]
    return str(reply["detail"])


@pytest.mark.parametrize("kind", BAD)
async def test_a_bad_version_never_serves(kind: str, own_station: Station, tmp_path: Path) -> None:
    """Under load, a version that fails at any step of its proof leaves the one before serving, with no failed job."""
    spoil, changes, said = BAD[kind]
    own_station.worker(HEIMDALL_PROOF_TIMEOUT_S="5" if kind == "too slow" else "60")
    model = write_model(tmp_path / "bad.onnx", **changes)
    spoil(model)
    own_station.registry.register(model)
    async with publisher(own_station.amqp_url) as jobs:
        assert said in await refused(own_station, jobs)


async def test_another_file_than_was_registered(own_station: Station, tmp_path: Path) -> None:
    """A version whose digest is not the registered one is refused before it is loaded."""
    own_station.worker()
    version = own_station.registry.register(write_model(tmp_path / "2.onnx", latitude=46.0))
    client = MlflowClient(own_station.tracking_uri, registry_uri=own_station.tracking_uri)
    client.set_model_version_tag("heimdall", version, DIGEST_TAG, "sha256:" + "0" * 64)
    async with publisher(own_station.amqp_url) as jobs:
        assert "the registry says sha256:0000" in await refused(own_station, jobs)


async def test_a_version_that_crashes_its_process(own_station: Station, tmp_path: Path) -> None:
    """A version in which native code dies takes a child along, not the worker."""
    own_station.worker(PYTHONPATH=str(Path(deadly.__file__).parent))
    model = write_model(tmp_path / "deadly.onnx", card={"mark": deadly.MARK.decode()})
    own_station.registry.register(model)
    async with publisher(own_station.amqp_url) as jobs:
        assert "crashes the process that runs it (SIGSEGV)" in await refused(own_station, jobs)


async def test_no_child_or_directory_is_left(own_station: Station, tmp_path: Path) -> None:
    """After refused versions no process of the worker and no download of its remains."""
    downloads = tmp_path / "tmp"
    downloads.mkdir()
    worker = own_station.worker(HEIMDALL_PROOF_TIMEOUT_S="5", TMPDIR=str(downloads))
    for spoil in (slow, corrupt):
        model = write_model(tmp_path / f"{spoil.__name__}.onnx")
        spoil(model)
        own_station.registry.register(model)
        async with publisher(own_station.amqp_url) as jobs:
            await refused(own_station, jobs)
    assert left_behind(downloads, worker.pid) == []


def left_behind(downloads: Path, pid: int) -> list[str]:
    """Directories of downloads, and children of a process."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [str(path) for path in downloads.glob("heimdall-model-*")] + children


async def test_fuzzed_commands_change_nothing(own_station: Station) -> None:
    """Ten thousand commands that nobody may give, or that say what none may say: no effect, and the worker lives."""
    worker = own_station.worker()
    generator = random.Random(1)
    async with publisher(own_station.amqp_url) as jobs:
        exchange = await jobs.channel.get_exchange("heimdall.control", ensure=False)
        for _ in range(100):
            batch = [fuzzed(generator) for _ in range(100)]
            await asyncio.gather(*(exchange.publish(message, "worker.all") for message in batch))
        async with asyncio.timeout(60):
            while value(worker, "heimdall_commands_total") < 10_000:
                await asyncio.sleep(0.1)
        assert value(worker, "heimdall_commands_total", result="refused") == 10_000
        assert value(worker, "heimdall_model_swaps_total") == 1
        assert (await jobs.locate(tone(1))).json["model_version"] == "1"


def fuzzed(generator: random.Random) -> aio_pika.Message:
    """A command without a user, or by an allowed one with something that is no valid command."""
    name = generator.choice(["reload", "pause", "drain", "resume", "load", "info", "\u0000", ""])
    text = "".join(generator.choices(string.printable, k=generator.randrange(30)))
    places = ["http://example.invalid/m.onnx", "file:///etc/passwd", "../../model", "models:/other@production"]
    document: object = generator.choice(
        [
            {"command": name, "command_id": uuid4().hex, "expect": generator.choice(places)},
            {"command": name, "command_id": uuid4().hex, "source": generator.choice(places)},
            {"command": name + "x", "command_id": uuid4().hex},
            {"command": "reload", "command_id": generator.choice(places)},
            [name],
            text,
            None,
        ]
    )
    body = json.dumps(document).encode()
    if generator.random() < 0.3:
        body = body[: generator.randrange(len(body) + 1)] + text.encode()
    valid_by_nobody = generator.random() < 0.3
    if valid_by_nobody:
        body = json.dumps({"command": "pause", "command_id": uuid4().hex}).encode()
    return aio_pika.Message(body, user_id=None if valid_by_nobody else "guest")
