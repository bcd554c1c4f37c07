"""OpenTelemetry traces: a span per job, one per micro-batch with links to its jobs, and one per stage below it.

A job's span continues the trace that its publisher names in the header `traceparent` (W3C Trace Context). The batch has
a trace of its own, because it serves many; its links lead from one to the other.

Off unless `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` is set. Where it is off, nothing of
OpenTelemetry is imported, and `batch` and `stage` return one shared object that does nothing. The SDK's own variables
(`OTEL_SERVICE_NAME`, `OTEL_TRACES_SAMPLER`, `OTEL_EXPORTER_OTLP_HEADERS`, …) count as they do everywhere.
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final, Protocol

import structlog

log = structlog.get_logger(__name__)

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_SERVICE: Final = "heimdall-worker"
_CARRIED: Final = ("traceparent", "tracestate")
_MAX_HEADER: Final = 512
_NS_PER_S: Final = 1_000_000_000

_NOTHING: Final[AbstractContextManager[None]] = nullcontext()


class TracedJob(Protocol):
    """What a span says of a job."""

    delivery: Any
    outcome: Any
    version: Any

    @property
    def job_id(self) -> str | None:
        """Its id."""


class _Spans:
    """Traces that are on; made by `configure`."""

    def __init__(self, provider: Any) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        self.provider = provider
        self._tracer = provider.get_tracer("heimdall.worker")
        self._propagator = TraceContextTextMapPropagator()

    def stage(self, name: str) -> AbstractContextManager[Any]:
        """A span below the current one."""
        found: AbstractContextManager[Any] = self._tracer.start_as_current_span(name)
        return found

    @contextmanager
    def batch(self, jobs: Sequence[TracedJob]) -> Iterator[None]:
        """Spans of the jobs, and of the batch with links to them."""
        from opentelemetry.trace import Link  # noqa: PLC0415

        spans = [self._start(job) for job in jobs]
        links = [Link(span.get_span_context()) for span in spans]
        attributes = {"messaging.system": "rabbitmq", "messaging.batch.message_count": len(jobs)}
        try:
            with self._tracer.start_as_current_span("micro-batch", links=links, attributes=attributes):
                yield
        finally:
            for job, span in zip(jobs, spans, strict=True):
                _end(job, span)

    def _start(self, job: TracedJob) -> Any:
        from opentelemetry.context import Context  # noqa: PLC0415
        from opentelemetry.trace import SpanKind  # noqa: PLC0415

        # On top of an empty context: the batch that runs beside is no parent of this job.
        parent = self._propagator.extract(_carrier(job.delivery.message.headers), Context())
        age_ns = int((time.monotonic() - job.delivery.received) * _NS_PER_S)
        attributes = {
            "messaging.system": "rabbitmq",
            "messaging.operation.type": "process",
            "messaging.message.id": job.job_id,
            "messaging.message.conversation_id": job.delivery.correlation_id,
            "messaging.message.body.size": len(job.delivery.body),
        }
        return self._tracer.start_span(
            "job",
            parent,
            kind=SpanKind.CONSUMER,
            attributes={name: value for name, value in attributes.items() if value is not None},
            start_time=time.time_ns() - age_ns,
        )


def _end(job: TracedJob, span: Any) -> None:
    from opentelemetry.trace import StatusCode  # noqa: PLC0415

    error = job.outcome.error if job.outcome is not None else None
    outcome = "kept or released" if job.outcome is None else "error" if error else "result"
    span.set_attribute("heimdall.outcome", outcome)
    if job.version is not None:
        span.set_attribute("heimdall.model_version", job.version.label)
    if error is not None:
        span.set_attribute("error.type", error)
        span.set_status(StatusCode.ERROR, job.outcome.reason[:_MAX_HEADER])
    span.end()


def _carrier(headers: Mapping[str, Any]) -> dict[str, str]:
    """The trace's headers as text: some clients send text as bytes."""
    found = {name: headers[name] for name in _CARRIED if name in headers}
    text = {name: v.decode(errors="replace") if isinstance(v, bytes) else v for name, v in found.items()}
    return {name: v for name, v in text.items() if isinstance(v, str) and len(v) <= _MAX_HEADER}


_spans: _Spans | None = None


def batch(jobs: Sequence[TracedJob]) -> AbstractContextManager[None]:
    """Round the whole of a micro-batch; ends the jobs' spans with what became of them."""
    return _NOTHING if _spans is None else _spans.batch(jobs)


def stage(name: str) -> AbstractContextManager[Any]:
    """Round one stage of the current micro-batch."""
    return _NOTHING if _spans is None else _spans.stage(name)


def configure(instance: str) -> None:
    """Turn traces on, if the environment names where they go. Never raises: a worker without traces works.

    Args:
        instance: name of this worker.
    """
    global _spans  # noqa: PLW0603 - one per process, as the SDK's own
    endpoint = next((os.environ[name] for name in ENDPOINTS if os.environ.get(name)), None)
    if endpoint is None:
        return
    try:
        _spans = _Spans(_provider(instance))
    except ImportError as error:
        log.warning("tracing.unavailable", error=str(error), remedy="pip install 'heimdall-worker[tracing]'")
    else:
        log.info("tracing.enabled", endpoint=endpoint)


def shutdown() -> None:
    """Send what is not sent yet, within the exporter's timeout, and turn traces off."""
    global _spans  # noqa: PLW0603 - see configure
    if _spans is not None:
        _spans.provider.shutdown()
        _spans = None


def _provider(instance: str) -> Any:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    service = os.environ.get("OTEL_SERVICE_NAME", _SERVICE)
    provider = TracerProvider(
        resource=Resource.create({"service.name": service, "service.instance.id": instance}), shutdown_on_exit=False
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
