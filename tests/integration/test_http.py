"""What an operator sees of a running worker."""

import json

from schemas.control import CommandReply
from tests.support.metrics import get, page, value
from tests.support.models import tone
from tests.support.station import Publisher, Station, command


async def test_pages_of_the_model(jobs: Publisher, shared_station: Station) -> None:
    """Information, versions and performance name the serving version and what it did."""
    await jobs.locate(tone(1))
    worker = shared_station.workers[0]
    assert page(worker, "/model/info")["model"]["version"] == "1"
    assert page(worker, "/model/info")["sample_rate"] == 48_000
    (version,) = page(worker, "/model/versions")
    assert version["alias"] == "production"
    (figures,) = page(worker, "/model/performance")
    assert figures["inference_count"] >= 1
    assert figures["latency_p50_ms"] <= figures["latency_p95_ms"] <= figures["latency_p99_ms"]
    assert figures["mlflow_run_id"]
    assert figures["accuracy"] == 100.0


async def test_health_of_a_ready_worker(shared_station: Station, jobs: Publisher) -> None:
    """Live, ready and started all say so."""
    for path in ("/health/live", "/health/ready", "/health/startup"):
        status, body = get(shared_station.workers[0], path)
        assert (status, json.loads(body)) == (200, {"status": "ok", "problems": []})


async def test_counts_of_a_job(jobs: Publisher, shared_station: Station) -> None:
    """One located job moves each counter that tells of it by one, under both families of names."""
    worker = shared_station.workers[0]
    names = (
        "heimdall_deliveries_total",
        "heimdall_onnx_runs_total",
        "inference_requests_total",
        "onnx_latency_ms_count",
    )
    before = [value(worker, name) for name in names]
    await jobs.locate(tone(77))
    assert [value(worker, name) for name in names] == [count + 1 for count in before]
    assert value(worker, "heimdall_model_info", name="heimdall", version="1", alias="production") == 1
    assert value(worker, "model_loaded") == 1


async def test_the_metrics_name_the_worker(jobs: Publisher, shared_station: Station) -> None:
    """As it names itself in its answers, so that both can be told to be of one worker."""
    answer = CommandReply.model_validate(await command(jobs, command="ping"))
    assert value(shared_station.workers[0], "heimdall_worker_info", worker=answer.instance) == 1


async def test_ping_and_info(jobs: Publisher) -> None:
    """An allowed operator gets the worker's state and what it serves; the same command id is answered alike."""
    ping = CommandReply.model_validate(await command(jobs, command="ping"))
    assert (ping.ok, ping.detail, ping.state) == (True, "pong", "serving")
    info = CommandReply.model_validate(await command(jobs, command="info"))
    assert [served.version for served in info.serving] == ["1"]


async def test_a_command_with_more_than_it_may_say(jobs: Publisher) -> None:
    """A reload that names a location is no valid command."""
    reply = await command(jobs, command="reload", source="http://example.invalid/model.onnx")
    assert reply["ok"] is False
    assert "no valid command" in str(reply["detail"])
