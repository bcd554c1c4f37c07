"""Traces of a real worker, as a collector receives them over OTLP/HTTP; and what they cost where they are off."""

import gzip
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.models import tone
from tests.support.station import Station, command, publisher
from worker.telemetry import tracing

ROOT = Path(__file__).parents[2]
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
JOBS = 5
STAGES = {"read", "features", "inference", "geometry", "store", "reply"}


class Collector:
    """Takes what is exported to it."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.resources: list[dict[str, str]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                plain = gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body
                collector.take(ExportTraceServiceRequest.FromString(plain))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Stay silent."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def take(self, request: ExportTraceServiceRequest) -> None:
        """Keep the spans, and whose they are."""
        for group in request.resource_spans:
            self.resources.append({a.key: a.value.string_value for a in group.resource.attributes})
            self.spans += [span for scope in group.scope_spans for span in scope.spans]

    def named(self, *names: str) -> list[Any]:
        """Spans by name."""
        return [span for span in self.spans if span.name in names]


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector that listens."""
    it = Collector()
    thread = Thread(target=it.server.serve_forever)
    thread.start()
    yield it
    it.server.shutdown()
    thread.join()
    it.server.server_close()


async def test_traces_of_a_batch(own_station: Station, collector: Collector) -> None:
    """Jobs continue their publisher's trace, the batch links to each of them, and each stage has its span below it."""
    worker = own_station.worker(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, HEIMDALL_INSTANCE="traced")
    async with publisher(own_station.amqp_url) as jobs:
        await command(jobs, command="pause")
        traced = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        sent = [await jobs.publish(tone(n), job_id=f"traced-{n}", headers=traced) for n in range(JOBS)]
        sent.append(await jobs.publish(tone(1)[:-3], job_id="failing"))
        await command(jobs, command="resume")
        await jobs.until(lambda: all(jobs.replies[c] for c in sent))
    worker.close()  # What is not sent yet is sent at the end.
    check_jobs(collector)
    check_batches(collector)
    assert collector.resources[0]["service.instance.id"] == "traced"


def check_jobs(collector: Collector) -> None:
    """One span per job, in the publisher's trace where there is one, with what became of the job."""
    spans = {attributes(span)["messaging.message.id"]: span for span in collector.named("job")}
    assert set(spans) == {f"traced-{n}" for n in range(JOBS)} | {"failing"}
    failing = spans.pop("failing")
    assert attributes(failing)["error.type"] == "malformed_iq"
    assert failing.parent_span_id == b""
    assert failing.trace_id.hex() != TRACE
    for span in spans.values():
        assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
        assert attributes(span)["heimdall.outcome"] == "result"
        assert attributes(span)["heimdall.model_version"] == "1"
        assert span.end_time_unix_nano > span.start_time_unix_nano


def check_batches(collector: Collector) -> None:
    """Links lead to every job once; the stages lie below their batch, and inside its time."""
    batches = {span.span_id: span for span in collector.named("micro-batch")}
    linked = [link.span_id for batch in batches.values() for link in batch.links]
    assert sorted(linked) == sorted(span.span_id for span in collector.named("job"))
    stages = [span for span in collector.spans if span.name not in {"job", "micro-batch"}]
    assert {span.name for span in stages} == STAGES
    for span in stages:
        batch = batches[span.parent_span_id]
        assert span.trace_id == batch.trace_id
        assert batch.start_time_unix_nano <= span.start_time_unix_nano
        assert span.end_time_unix_nano <= batch.end_time_unix_nano


def attributes(span: Any) -> dict[str, Any]:
    """Of a span, as text."""
    return {a.key: a.value.string_value or a.value.int_value for a in span.attributes}


async def test_a_collector_that_is_away_harms_nobody(own_station: Station) -> None:
    """Jobs are located, and the worker ends in time, though nothing takes its spans."""
    worker = own_station.worker(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9", OTEL_EXPORTER_OTLP_TIMEOUT="1")
    async with publisher(own_station.amqp_url) as jobs:
        assert (await jobs.locate(tone(1))).code is None
    worker.terminate()
    assert worker.wait(30) == 0


def test_off_costs_nothing() -> None:
    """Without an endpoint nothing of OpenTelemetry is imported, and every span is the same object that does nothing."""
    tracing.configure("off")
    assert tracing.stage("features") is tracing.batch([])
    program = (
        "import sys, worker.service\n"
        "from worker.telemetry import tracing\n"
        "tracing.configure('off')\n"
        "with tracing.batch([]), tracing.stage('features'): pass\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry') and 'exporter' in name])\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    ran = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]"


def test_without_the_extra_the_worker_says_what_to_install() -> None:
    """An endpoint without the libraries is a warning, not an end."""
    program = (
        "import sys\n"
        "sys.modules['opentelemetry.exporter.otlp.proto.http.trace_exporter'] = None\n"
        "from worker.telemetry import tracing\n"
        "tracing.configure('w')\n"
        "with tracing.stage('features'): pass\n"
    )
    environment = os.environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
    ran = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "tracing.unavailable" in ran.stdout + ran.stderr
    assert "heimdall-worker[tracing]" in ran.stdout + ran.stderr
