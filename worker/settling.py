"""The end of jobs, in the order that keeps the promises: store → dead letters → replies and events → acknowledge.

What is stored is what is sent, and nothing is acknowledged before it is sent.
"""

import time
from collections.abc import Iterable, Sequence

import structlog

from worker.amqp.session import AmqpSession
from worker.errors import JobIdConflict, Unavailable
from worker.job import Job, Outcome, suspect_ids
from worker.outgoing import dead_letter, event_publications, is_dead, reply
from worker.results import error_outcome, stored_outcome
from worker.store.outcomes import Outcomes
from worker.telemetry import tracing
from worker.telemetry.metrics import Metrics
from worker.telemetry.performance import Performance

log = structlog.get_logger(__name__)


class Settler:
    """Ends jobs.

    Args:
        outcomes: the store.
        metrics: the catalogue.
        performance: latencies by version.
        instance: name of this worker, for dead letters.
        events_enabled: whether live results are published.
    """

    def __init__(
        self, outcomes: Outcomes, metrics: Metrics, performance: Performance, *, instance: str, events_enabled: bool
    ) -> None:
        self._outcomes = outcomes
        self._metrics = metrics
        self._performance = performance
        self._instance = instance
        self._events_enabled = events_enabled

    async def settle(self, jobs: Sequence[Job]) -> None:
        """Store, answer and acknowledge jobs that have an outcome or an error.

        Raises:
            Unavailable: Redis or the broker is away; what is not settled is to be released.
        """
        if not jobs:
            return
        with tracing.stage("store"):
            await self._store(jobs)
        for session, members in _by_session(jobs).items():
            with tracing.stage("reply"):
                await self._answer(session, members)
            session.ack(job.delivery.message for job in members)
        await self._outcomes.clear_suspects(suspect_ids(jobs))
        self._count(jobs)

    async def _store(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            if job.outcome is None:
                assert job.error is not None
                job.outcome = error_outcome(job, job.error)
        fresh = [job for job in jobs if job.outcome and job.outcome.fresh and job.outcome.storable]
        started = time.perf_counter()
        stored = await self._outcomes.save([(job.job_id or "", job.outcome.body) for job in fresh if job.outcome])
        self._metrics.stage.labels("store").observe(time.perf_counter() - started)
        for job, body in zip(fresh, stored, strict=True):
            if job.outcome and body != job.outcome.body:
                take_stored(job, body)

    async def _answer(self, session: AmqpSession, jobs: Sequence[Job]) -> None:
        started = time.perf_counter()
        letters = [dead_letter(job, self._instance) for job in jobs if is_dead(job)]
        if not all(await session.publish(letters)):
            session.lose("the dead-letter queue is missing, or refuses")
            raise Unavailable("the dead-letter queue is missing, or refuses: a failed job must not be acknowledged")
        replies = [(job, publication) for job in jobs if (publication := reply(job)) is not None]
        events = [e for job in jobs for e in event_publications(job)] if self._events_enabled else []
        routed = await session.publish([publication for _, publication in replies] + events)
        for (job, _), arrived in zip(replies, routed, strict=False):
            if not arrived:
                self._metrics.undeliverable.inc()
                log.warning(
                    "reply.undeliverable",
                    job_id=job.job_id,
                    correlation_id=job.delivery.correlation_id,
                    reply_to=job.delivery.reply_to,
                )
        self._metrics.stage.labels("reply").observe(time.perf_counter() - started)

    async def release(self, jobs: Sequence[Job]) -> None:
        """Give jobs that are not settled back to the queue."""
        for session, members in _by_session(jobs).items():
            self._metrics.released.inc(session.release(job.delivery.message for job in members))
        # What is given back in good order did not crash the worker.
        await self._outcomes.forgive_suspects(suspect_ids(jobs))

    def _count(self, jobs: Sequence[Job]) -> None:
        located: dict[str, list[Job]] = {}
        for job in jobs:
            outcome = job.outcome
            assert outcome is not None
            if not outcome.fresh:
                self._metrics.repeats.inc()
            elif outcome.error is not None:
                self._count_failure(job, outcome)
            elif job.version is not None:
                located.setdefault(job.version.label, []).append(job)
        errors = sum(job.outcome is not None and job.outcome.error is not None for job in jobs)
        self._metrics.ended(results=len(jobs) - errors, errors=errors)
        for version, members in located.items():
            self._observe(version, members)

    def _count_failure(self, job: Job, outcome: Outcome) -> None:
        code = outcome.error or ""
        self._metrics.failed(code)
        log.info(
            "job.failed",
            job_id=job.job_id,
            correlation_id=job.delivery.correlation_id,
            code=code,
            reason=outcome.reason,
        )
        if is_dead(job):
            self._metrics.dead_letters.labels(code).inc()

    def _observe(self, version: str, jobs: Sequence[Job]) -> None:
        now, located = time.monotonic(), 0
        version_log = log.bind(version=version)  # Once: it makes a logger, also where nothing is logged.
        for job in jobs:
            total = now - job.delivery.received
            samples = sum(sample.error is None for sample in job.samples)
            located += samples
            self._performance.record(version, total, samples)
            self._metrics.located(version, total, job.timings.by_stage())
            version_log.debug("job.located", job_id=job.job_id, correlation_id=job.delivery.correlation_id)
        self._metrics.samples.labels(version).inc(located)
        self._metrics.up_inferences.inc(located)


def take_stored(job: Job, body: bytes) -> None:
    """What the store holds is what is sent, unless it answers other input."""
    try:
        stored, digest = stored_outcome(body)
    except (ValueError, TypeError, AttributeError):
        conflict = JobIdConflict("what is stored under this job id is no outcome: something else writes to Redis")
    else:
        if digest == job.input_digest:
            job.outcome = stored
            return
        conflict = JobIdConflict("this job id was used before, with another body, other metadata or by another user")
    job.outcome = error_outcome(job, conflict, storable=False)


def _by_session(jobs: Iterable[Job]) -> dict[AmqpSession, list[Job]]:
    groups: dict[AmqpSession, list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.delivery.session, []).append(job)
    return groups
