"""One worker process: joins its parts, runs their tasks, and ends them in order."""

import asyncio
import signal
import time
from collections.abc import Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, Final

import structlog

from worker.amqp.broker import Broker
from worker.amqp.delivery import Delivery
from worker.amqp.flow import Flow
from worker.amqp.session import AmqpSession
from worker.config import Settings
from worker.control import Control
from worker.errors import HeimdallError, SettingRefused
from worker.memory import collect_rarely, return_memory_soon
from worker.model_pages import ModelPages
from worker.operations import Operations
from worker.parts import (
    build_batcher,
    build_claims,
    build_locator,
    build_pipeline,
    build_store,
    build_swapper,
    open_worker_session,
)
from worker.serving.model import Models, ModelVersion
from worker.shadow import Shadow
from worker.telemetry.health import Probes
from worker.telemetry.http import HttpServer
from worker.telemetry.lag import LoopBeat
from worker.telemetry.metrics import Metrics
from worker.telemetry.performance import Performance
from worker.trial import Trial

log = structlog.get_logger(__name__)

RESERVE_S: Final = 5.0
"""Of the grace period, kept for closing connections."""
_MEMORY_INTERVAL_S: Final = 15.0


class Service:
    """One worker process.

    Args:
        settings: checked already.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._metrics = Metrics()
        self._metrics.worker.labels(settings.instance).set(1)
        self._performance = Performance()
        self._flow = Flow()
        self._flow.stop("model")
        self._flow.stop("store")  # Until a real write has succeeded.
        self._models = Models(self._on_retired, self._on_serving)
        self._store = build_store(settings, self._metrics, self._on_store_change)
        self._locator = build_locator(settings, self._store, self._metrics)
        self._swapper = build_swapper(settings, self._models, self._metrics, self._on_registry)
        self._trial = Trial(self._fail, self._metrics)
        self._shadow = Shadow(self._metrics, settings.max_batch_size, lambda: self._batcher.waiting > 0)
        pipeline = build_pipeline(
            settings,
            self._models,
            self._store,
            self._locator,
            self._trial,
            self._shadow,
            self._metrics,
            self._performance,
        )
        self._batcher = build_batcher(settings, pipeline)
        self._claims = build_claims(settings)
        self._broker = Broker(
            partial(open_worker_session, settings),
            self._flow,
            self._take,
            max_body_bytes=settings.max_body_bytes,
            on_open=self._on_open,
        )
        self._operations = Operations(
            self._flow, self._swapper, self._broker, self._claims, self._batcher, settings.reload_jitter_s
        )
        self._control = Control(
            settings.instance, settings.control_users, self._operations, self._models, self._metrics
        )
        self._beat = LoopBeat(self._metrics.loop_lag)
        self._stopping = asyncio.Event()
        self._reloads: set[asyncio.Task[None]] = set()
        self._metrics.in_flight.set_function(lambda: self._broker.held)
        self._metrics.up_active.set_function(lambda: self._broker.held)
        self._metrics.consuming.set_function(lambda: float(self._operations.consuming))

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT, then drain.

        Returns:
            The exit code: 0 after a drain, 1 when a task of the worker itself failed.

        Raises:
            SettingRefused: the HTTP server cannot listen where it should.
        """
        http = await self._start_http()
        self._handle_signals()
        tasks = {self._task(step) for step in self._steps()}
        stop = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait({stop, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        failed = [task for task in tasks if task.done()]
        for task in failed:
            log.critical("service.task_failed", task=task.get_name(), exc_info=task.exception())
        if not failed:
            await self._drain()
        await _cancel({stop, *tasks, *self._reloads})
        await http.close()
        await self._store.close()
        await self._control.close()
        await self._trial.close()
        await self._shadow.close()
        self._locator.close()
        self._claims.close()
        log.info("service.stopped", failed=bool(failed))
        return 1 if failed else 0

    def stop(self) -> None:
        """Begin to drain; a second call changes nothing."""
        if not self._stopping.is_set():
            log.info("service.stopping", held=self._broker.held)
        self._stopping.set()

    def _steps(self) -> list[Coroutine[Any, Any, None]]:
        return [
            self._beat.run(),
            self._store.watch(),
            self._watch_memory(),
            self._follow_registry(),
            self._batcher.run(),
            self._broker.run(),
        ]

    @staticmethod
    def _task(step: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.create_task(step, name=getattr(step, "__qualname__", "task"))

    async def _follow_registry(self) -> None:
        await self._swapper.first()
        collect_rarely()
        self._flow.clear("model")
        await self._swapper.poll(self._settings.registry_poll_s)

    async def _watch_memory(self) -> None:
        while True:
            self._metrics.up_redis_memory.set(await self._store.memory_bytes())
            await asyncio.sleep(_MEMORY_INTERVAL_S)

    async def _drain(self) -> None:
        """Cancel the consumer, finish what is held, release what cannot finish in time."""
        ends = time.monotonic() + self._settings.grace_s - RESERVE_S
        self._flow.stop("draining")
        try:
            async with asyncio.timeout(max(0.0, ends - time.monotonic())):
                await self._operations.until_nothing_is_held()
        except TimeoutError:
            left: list[Delivery] = [*self._batcher.withdraw(), *self._claims.withdraw()]
            log.warning("drain.unfinished", waiting=len(left), batches=self._batcher.in_flight)
            for delivery in left:
                self._metrics.released.inc(delivery.session.release([delivery.message]))

    def _take(self, delivery: Delivery) -> None:
        self._metrics.delivered(redelivered=delivery.redelivered)
        if delivery.queued_s is not None:
            self._metrics.queue_age.observe(delivery.queued_s)
        self._claims.take(delivery, self._batcher.put)

    async def _on_open(self, session: AmqpSession) -> None:
        self._metrics.connects.inc()
        await self._control.listen(session)

    async def _fail(self, version: ModelVersion, reason: str) -> None:
        """A version is at fault. Without another one to take production's place, no jobs are taken."""
        rollout = self._models.current
        if rollout is not None and rollout.primary is version:
            self._flow.stop("model")
        await self._swapper.fail(version, reason)

    def _on_registry(self, paused: str | None) -> None:
        if paused is None:
            self._flow.clear("fleet_paused")
        else:
            self._flow.stop("fleet_paused")

    def _on_serving(self) -> None:
        """Something else serves than before."""
        rollout = self._models.current
        assert rollout is not None
        self._flow.clear("model")
        self._metrics.model.clear()
        for version in rollout.versions:
            self._metrics.model.labels(version.record.name, version.label, version.record.alias).set(1)
        self._metrics.up_loaded.set(1)
        accuracy = rollout.primary.contract.card.get("accuracy_m")
        if isinstance(accuracy, int | float):
            self._metrics.up_accuracy.set(accuracy)

    def _on_retired(self, version: ModelVersion) -> None:
        self._trial.forget(version)
        return_memory_soon()
        log.info("model.retired", name=version.record.name, version=version.label)
        rollout = self._models.current
        if rollout is None or version.label not in {serving.label for serving in rollout.versions}:
            self._metrics.retire(version.label)
            self._performance.retire(version.label)

    def _can_progress(self) -> bool:
        """Whether jobs are held and nothing that a restart does not mend keeps them waiting."""
        can_compute = self._store.up and self._broker.connected and "model" not in self._flow.reasons
        return can_compute and self._broker.held > 0

    def _on_store_change(self, up: bool) -> None:  # noqa: FBT001 - a callback's one argument
        self._metrics.store_up.set(up)
        if up:
            self._flow.clear("store")
        else:
            self._flow.stop("store")

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload_on_signal)

    def _reload_on_signal(self) -> None:
        async def reload() -> None:
            with suppress(HeimdallError):  # The swapper has logged why.
                await self._operations.reload(None)

        task = asyncio.create_task(reload())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _start_http(self) -> HttpServer:
        settings = self._settings
        probes = Probes(
            loop_beat_at=lambda: self._beat.beat_at,
            progress_at=lambda: max(self._batcher.progress_at, self._locator.progress_at, self._claims.progress_at),
            busy=self._can_progress,
            obstacles=self._operations.obstacles,
            started=lambda: self._operations.started,
            live_timeout_s=settings.live_timeout_s,
        )
        pages = ModelPages(self._models, self._performance, self._metrics)
        server = HttpServer(
            self._metrics,
            probes,
            {"/model/info": pages.info, "/model/versions": pages.versions, "/model/performance": pages.performance},
        )
        try:
            port = await server.start(settings.http_host, settings.http_port)
        except (OSError, UnicodeError) as error:  # The latter where a host has a label that no name can have.
            raise SettingRefused(
                f"HEIMDALL_HTTP_HOST {settings.http_host!r}, HEIMDALL_HTTP_PORT {settings.http_port}: {error}; "
                "they must be an address of this machine and a port that nobody else listens on"
            ) from error
        log.info("http.listening", host=settings.http_host, port=port)
        return server


async def _cancel(tasks: set[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
