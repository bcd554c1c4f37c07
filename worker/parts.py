"""The parts of a worker, each built from its settings. Nothing is started here: `worker.service` owns what runs."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from worker.amqp.delivery import Delivery
from worker.amqp.session import AmqpSession, open_session
from worker.amqp.topology import Topology
from worker.claim_stores import ClaimStores
from worker.claims import Claims
from worker.config import Settings
from worker.locating import Locator
from worker.pipeline import Pipeline
from worker.serving.batcher import MicroBatcher
from worker.serving.library import Library
from worker.serving.loading import load_version
from worker.serving.model import Models, ModelVersion
from worker.serving.policy import BatchPolicy
from worker.serving.proof import ProofLimits, prove_in_child
from worker.serving.registry import Registry
from worker.serving.rollout import VersionRecord
from worker.serving.session import SessionOptions
from worker.serving.swap import Swapper
from worker.settling import Settler
from worker.shadow import Shadow
from worker.store.cache import OutputCache
from worker.store.connection import StoreConnection, connect
from worker.store.outcomes import Outcomes
from worker.telemetry.metrics import Metrics
from worker.telemetry.performance import Performance
from worker.trial import Trial

log = structlog.get_logger(__name__)

BATCHES_IN_FLIGHT: Final = 4
"""One in features, one in the session, two being settled; the prefetch of four batches feeds them."""
_REGISTRY_PAUSE_S: Final = 0.03


def build_store(settings: Settings, metrics: Metrics, on_change: Callable[[bool], None]) -> StoreConnection:
    """The connection to Redis.

    Args:
        settings: of the worker.
        metrics: the catalogue.
        on_change: told whether the store answers.
    """
    return StoreConnection(
        connect(settings.redis_url.get_secret_value(), settings.redis_timeout_s),
        hold=settings.redis_hold_s,
        instance=settings.instance,
        failures=metrics.store_failures,
        on_change=on_change,
    )


def build_locator(settings: Settings, store: StoreConnection, metrics: Metrics) -> Locator:
    """What computes samples, with a cache of raw outputs if one is wanted."""
    cache = OutputCache(store, settings.cache_ttl_s) if settings.cache_enabled else None
    return Locator(cache, metrics, settings.max_batch_size)


def build_swapper(
    settings: Settings, models: Models, metrics: Metrics, on_registry: Callable[[str | None], None]
) -> Swapper:
    """What brings the registry's versions into service.

    Args:
        settings: of the worker.
        models: what serves.
        metrics: the catalogue.
        on_registry: told why the registry wants the fleet paused, or None.
    """
    registry = Registry(settings.mlflow_tracking_uri.get_secret_value(), settings.model_name, _REGISTRY_PAUSE_S)
    library = Library(registry, settings.state_dir, settings.model_name)
    return Swapper(registry, library, models, partial(_load_proven, settings), metrics, on_registry)


def build_pipeline(
    settings: Settings,
    models: Models,
    store: StoreConnection,
    locator: Locator,
    trial: Trial,
    shadow: Shadow,
    metrics: Metrics,
    performance: Performance,
) -> Pipeline:
    """What runs a micro-batch from deliveries to acknowledgements."""
    outcomes = Outcomes(store, settings.result_ttl_s)
    settler = Settler(
        outcomes, metrics, performance, instance=settings.instance, events_enabled=settings.events_enabled
    )
    return Pipeline(
        models,
        outcomes,
        locator,
        settler,
        trial,
        shadow,
        metrics,
        max_batch_size=settings.max_batch_size,
        stale_after_s=settings.stale_after_s,
    )


def build_batcher(settings: Settings, pipeline: Pipeline) -> MicroBatcher[Delivery]:
    """What collects deliveries into micro-batches."""
    return MicroBatcher(
        BatchPolicy(settings.max_batch_size, settings.max_wait_ms / 1000, settings.eager),
        pipeline.run,
        is_suspect=lambda delivery: delivery.suspect,
        max_in_flight=BATCHES_IN_FLIGHT,
        on_crash=lambda error: log.error("batch.crashed", exc_info=error),
    )


def build_claims(settings: Settings) -> Claims[Delivery]:
    """What fetches datasets that stand elsewhere."""
    return Claims(
        ClaimStores.of(settings.claim_sources),
        max_bytes=settings.claim_max_bytes,
        memory_bytes=settings.claim_memory_bytes,
        timeout_s=settings.claim_timeout_s,
    )


async def open_worker_session(settings: Settings) -> AmqpSession:
    """A session with the broker, its topology declared or checked; errors as of `worker.amqp.session.open_session`."""
    topology = Topology(
        queue=settings.queue,
        routing_key=settings.routing_key,
        queue_max_bytes=settings.queue_max_bytes,
        dead_max_bytes=settings.dead_max_bytes,
        declare=settings.declare_topology,
    )
    return await open_session(
        settings.amqp_url.get_secret_value(),
        topology,
        prefetch_count=settings.prefetch_count,
        confirm_timeout=settings.confirm_timeout_s,
        name=settings.instance,
    )


def _load_proven(settings: Settings, directory: Path, record: VersionRecord) -> ModelVersion:
    """Load a version that has shown in a process of its own that it can be loaded and run."""
    prove_in_child(
        directory,
        record,
        ProofLimits(settings.proof_timeout_s, settings.proof_memory_bytes),
        max_batch_size=settings.max_batch_size,
        require_golden=settings.require_golden,
    )
    return load_version(
        directory,
        record,
        SessionOptions(settings.providers, settings.intra_op_threads),
        max_batch_size=settings.max_batch_size,
        require_golden=settings.require_golden,
    )
