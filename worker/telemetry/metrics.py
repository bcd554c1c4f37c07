"""Every metric of the worker, a line each. Base units; labels from closed sets only.

Never a job, session or receiver as a label. Series of a model version are removed when it retires.
The second half repeats the figures under the names that existing dashboards of the Heimdall system use.
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from schemas.problems import ErrorCode

SECONDS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 30.0)
MILLISECONDS: Final = tuple(1000 * bound for bound in SECONDS)
SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
METRES: Final = (1.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0, 100_000.0)
SIGMAS: Final = (0.1, 0.3, 1.0, 2.0, 3.0, 5.0, 10.0)
RATIOS: Final = (0.1, 0.3, 0.5, 0.8, 1.25, 2.0, 3.0, 10.0)
STAGES: Final = ("queue", "decode", "features", "inference", "geometry", "store", "reply", "total")


class Metrics:
    """The catalogue. One instance per process, with its own registry.

    Args:
        registry: where the metrics live.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = r = registry or CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=r)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, registry=r)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(name, text, labels, buckets=buckets, registry=r)

        self.deliveries = counter("heimdall_deliveries", "Jobs delivered by the broker.")
        self.redeliveries = counter("heimdall_redeliveries", "Deliveries that were delivered before.")
        self.jobs = counter("heimdall_jobs", "Jobs with a terminal outcome.", "outcome")
        self.samples = counter("heimdall_samples", "Samples located, by model version.", "version")
        self.errors = counter("heimdall_errors", "Jobs that ended with an error.", "code")
        self.repeats = counter("heimdall_repeats", "Jobs answered with a stored outcome.")
        self.dead_letters = counter("heimdall_dead_letters", "Jobs copied to the dead-letter queue.", "code")
        self.undeliverable = counter(
            "heimdall_undeliverable_replies", "Replies that no queue took; direct reply-to does not tell."
        )
        self.released = counter("heimdall_released", "Jobs given back to the queue unfinished.")
        self.batch_size = histogram("heimdall_batch_size", "Jobs per micro-batch.", SIZES)
        self.run_size = histogram("heimdall_run_size", "Samples per ONNX run.", SIZES)
        self.runs = counter("heimdall_onnx_runs", "ONNX runs, by model version.", "version")
        self.splits = counter("heimdall_batch_splits", "Failed runs that were split to find the culprit.")
        self.stage = histogram(
            "heimdall_stage_seconds",
            "Time per stage: of a job; store and reply: of the jobs settled together.",
            SECONDS,
            "stage",
        )
        self.job = histogram("heimdall_job_seconds", "Delivery to encoded result, by version.", SECONDS, "version")
        self.queue_age = histogram(
            "heimdall_queue_age_seconds", "Publish to delivery, where the job has a timestamp.", SECONDS
        )
        self.in_flight = gauge("heimdall_in_flight", "Jobs held: delivered and not yet settled.")
        self.consuming = gauge("heimdall_consuming", "1 while the worker takes jobs.")
        self.cache = counter(
            "heimdall_cache_lookups", "Cache look-ups by level (front, row) and result.", "level", "result"
        )
        self.loop_lag = histogram("heimdall_event_loop_lag_seconds", "How late the event loop wakes.", SECONDS)
        self.connects = counter("heimdall_broker_connects", "Sessions opened with the broker.")
        self.store_failures = counter("heimdall_store_failures", "Calls to Redis that failed.")
        self.store_up = gauge("heimdall_store_up", "1 while Redis takes writes.")
        self.commands = counter("heimdall_commands", "Control commands by result.", "result")
        self.swaps = counter("heimdall_model_swaps", "Model loads by result.", "result")
        self.rollbacks = counter(
            "heimdall_model_rollbacks", "Versions marked as failed, by the part they played.", "alias"
        )
        self.failures = counter("heimdall_model_failures", "Samples a version failed on.", "version")
        self.reruns = counter("heimdall_canary_reruns", "Jobs the canary failed on, given to production.")
        self.shadow_runs = counter(
            "heimdall_shadow_samples", "Samples for the shadow, by what became of them.", "result"
        )
        self.shadow_distance = histogram("heimdall_shadow_distance_meters", "Shadow's fix to production's.", METRES)
        self.shadow_mahalanobis = histogram("heimdall_shadow_mahalanobis", "The same in sigmas of production.", SIGMAS)
        self.shadow_area = histogram("heimdall_shadow_area_ratio", "Shadow's ellipse area over production's.", RATIOS)
        self.model = gauge("heimdall_model_info", "1 for each version that serves.", "name", "version", "alias")
        # Not `instance`: Prometheus gives every series a label of that name, the address it scraped.
        self.worker = gauge("heimdall_worker_info", "1, with the name of the worker.", "worker")

        for code in ErrorCode:  # From the start, so that a rate over a first error is no gap.
            self.errors.labels(str(code))
            self.dead_letters.labels(str(code))
        for result in ("succeeded", "failed"):
            self.swaps.labels(result)
        for alias in ("production", "canary"):
            self.rollbacks.labels(alias)
        # Looked up once: a lookup by label takes as long as the observation.
        self._stages = {name: self.stage.labels(name) for name in STAGES}
        self._outcomes = {name: self.jobs.labels(name) for name in ("result", "error")}
        self._hits = self._misses = 0
        self._define_upstream()

    def _define_upstream(self) -> None:
        r = self.registry
        self.up_inference = Histogram(
            "inference_latency_ms", "Delivery to encoded result.", registry=r, buckets=MILLISECONDS
        )
        self.up_preprocessing = Histogram(
            "preprocessing_latency_ms", "Decode and features of a run.", registry=r, buckets=MILLISECONDS
        )
        self.up_onnx = Histogram("onnx_latency_ms", "One ONNX run.", registry=r, buckets=MILLISECONDS)
        self.up_cache_hits = Counter("cache_hits", "Samples answered from the cache.", registry=r)
        self.up_cache_misses = Counter("cache_misses", "Samples that had to be computed.", registry=r)
        self.up_cache_hit_rate = Gauge("cache_hit_rate", "Share of cache hits since start.", registry=r)
        self.up_redis_memory = Gauge("redis_memory_bytes", "Memory that Redis uses.", registry=r)
        self.up_requests = Counter("inference_requests", "Jobs delivered.", registry=r)
        self.up_errors = Counter("inference_errors", "Jobs that ended with an error.", ["error_type"], registry=r)
        self.up_active = Gauge("inference_active_requests", "Jobs held.", registry=r)
        self.up_reloads = Counter("model_reloads", "Reloads that succeeded.", registry=r)
        self.up_loaded = Gauge("model_loaded", "1 while a model serves.", registry=r)
        self.up_inferences = Counter("model_inference_count", "Samples located.", registry=r)
        self.up_accuracy = Gauge("model_accuracy_meters", "Accuracy stated by the model's card.", registry=r)

    def cache_result(self, hits: int, misses: int) -> None:
        """Count samples answered from the cache, and not."""
        self._hits += hits
        self._misses += misses
        self.up_cache_hits.inc(hits)
        self.up_cache_misses.inc(misses)
        self.up_cache_hit_rate.set(self.cache_hit_rate)

    @property
    def cache_hit_rate(self) -> float:
        """Share of cache hits since start, 0..1."""
        return self._hits / max(self._hits + self._misses, 1)

    def delivered(self, *, redelivered: bool) -> None:
        """Count a delivery."""
        self.deliveries.inc()
        self.up_requests.inc()
        if redelivered:
            self.redeliveries.inc()

    def ended(self, *, results: int, errors: int) -> None:
        """Count jobs with a terminal outcome."""
        self._outcomes["result"].inc(results)
        self._outcomes["error"].inc(errors)

    def located(self, version: str, total_s: float, stages: Iterable[tuple[str, float]]) -> None:
        """Observe a located job: seconds from delivery to here, and of each stage."""
        self.job.labels(version).observe(total_s)
        self.up_inference.observe(1000 * total_s)
        self._stages["total"].observe(total_s)
        for name, seconds in stages:
            self._stages[name].observe(seconds)

    def failed(self, code: str) -> None:
        """Count a job that ended with an error."""
        self.errors.labels(code).inc()
        self.up_errors.labels(code).inc()

    def retire(self, version: str) -> None:
        """Remove the series of a model version that no longer serves."""
        for metric in (self.samples, self.runs, self.job, self.failures):
            with suppress(KeyError):
                metric.remove(version)

    def render(self) -> bytes:
        """The text exposition format."""
        return generate_latest(self.registry)
