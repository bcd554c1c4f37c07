"""What is published for a settled job: reply, events, dead letter. Incoming headers are never copied whole."""

import struct
from typing import Any, Final

import pamqp.encode

from schemas import events
from schemas.claim import MAX_CLAIM_URL
from schemas.job import MAX_SESSION_ID, MAX_SIGMF_HEADER_BYTES, JobHeaders
from schemas.problems import ERROR_TABLE, Disposition, ErrorCode
from worker.amqp.publishing import Publication
from worker.amqp.replies import reply_publication
from worker.amqp.topology import DEAD, DEAD_ROUTING_KEY
from worker.capsule import capsule
from worker.job import Job
from worker.results import event_bodies

# Of the original headers these alone travel with a dead letter: what a replay needs. CC and BCC would add routes.
_REPLAYED: Final = tuple(JobHeaders.model_fields)
_MAX_VALUE_BYTES: Final = 4 * MAX_SESSION_ID
_MAX_BYTES: Final = {"sigmf": MAX_SIGMF_HEADER_BYTES, "claim": 4 * MAX_CLAIM_URL}
_MAX_REASON: Final = 1000


def is_dead(job: Job) -> bool:
    """Whether the job's error sends it to the dead-letter queue.

    A stored error does so again only when the broker delivers the job again: then it may not have got there before.
    """
    outcome = job.outcome
    if outcome is None or outcome.error is None or not (outcome.fresh or job.delivery.redelivered):
        return False
    return ERROR_TABLE[ErrorCode(outcome.error)].disposition is Disposition.DEAD


def reply(job: Job) -> Publication | None:
    """The reply, or None where the job asks for none."""
    outcome, delivery = job.outcome, job.delivery
    if outcome is None or delivery.reply_to is None:
        return None
    return reply_publication(delivery.reply_to, outcome.body, outcome.content_type, delivery.correlation_id)


def event_publications(job: Job) -> list[Publication]:
    """The events: of fresh outcomes, and of stored ones that the broker's redelivery may have kept from being told."""
    # What has no id is no job, and an event led back to the job queue by a binding would feed itself.
    if job.outcome is None or job.job_id is None or not (job.outcome.fresh or job.delivery.redelivered):
        return []
    return [Publication(events.EXCHANGE, key, body, "application/json") for key, body in event_bodies(job.outcome)]


def dead_letter(job: Job, instance: str) -> Publication:
    """The original body with what failed, why, whose it was and who says so."""
    assert job.outcome is not None
    said = {
        "heimdall-job-id": job.job_id or job.delivery.message.message_id,
        "heimdall-code": job.outcome.error,
        "heimdall-reason": job.outcome.reason[:_MAX_REASON],
        "heimdall-publisher": job.delivery.user_id,
        "heimdall-worker": instance,
        "heimdall-model-version": job.version.record.version if job.version else None,
    }
    return Publication(
        exchange=DEAD,
        routing_key=DEAD_ROUTING_KEY,
        body=job.delivery.body,
        content_type=job.delivery.content_type,
        mandatory=True,
        persistent=True,
        correlation_id=job.delivery.correlation_id,
        headers=_original(job) | {n: value for n, value in said.items() if value is not None} | capsule(job, job.mates),
    )


def _original(job: Job) -> dict[str, Any]:
    raw = job.delivery.message.headers
    kept = {name: raw[name] for name in _REPLAYED if name in raw and _is_valid_size(name, raw[name])}
    # Bytes can be read from a header but not written to one.
    text = {name: v.decode(errors="replace") if isinstance(v, bytes) else v for name, v in kept.items()}
    return {name: value for name, value in text.items() if _is_writable(value)}


def _is_writable(value: Any) -> bool:
    # Not all that can be read from a header can be written to one, and a letter that cannot be written would never go.
    try:
        pamqp.encode.encode_table_value(value)
    except (ValueError, TypeError, ArithmeticError, RecursionError, struct.error):
        return False
    return True


def _is_valid_size(name: str, value: Any) -> bool:
    # Headers over 128 KiB would close our own connection: what is longer than any valid value stays behind.
    if isinstance(value, bool | int | float):
        return True
    most = _MAX_BYTES.get(name, _MAX_VALUE_BYTES)
    return len(value if isinstance(value, bytes) else str(value).encode()) <= most
