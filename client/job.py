"""A job as it is published: the capture, and what is asked of it."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import aio_pika
import orjson
from aio_pika import DeliveryMode, Message
from pydantic import ValidationError

from client.capture import Capture
from client.errors import CaptureError
from schemas.claim import Claim
from schemas.job import JOB_ID, MAX_CONFIDENCE, MAX_SIGMF_HEADER_BYTES, SIGMF_CONTENT_TYPE, JobHeaders

REPLY_TO: Final = "amq.rabbitmq.reply-to"
"""RabbitMQ's direct reply-to: no queue to declare, so no permission beyond publishing jobs."""
MAX_BODY_BYTES: Final = 16 * 1024 * 1024
"""RabbitMQ 4 closes the channel of whoever publishes more, with everybody else's replies on it."""
_KEPT_OF_ID: Final = 100
_DECIMALS: Final = 9  # An AMQP decimal is a 32-bit integer and a power of ten.


@dataclass(frozen=True, slots=True)
class Job:
    """One publish, repeatable to the byte.

    Attributes:
        job_id: also the message id.
        correlation_id: of this asking; two askings for one job id differ in it.
        body: the dataset.
        headers: of the wire contract.
        user_id: whom the broker must find to be the publisher; None = the broker's default user.
        reply_to: where the answer goes; None = nowhere, it is looked up or followed.
    """

    job_id: str
    correlation_id: str
    body: bytes
    headers: Mapping[str, Any]
    user_id: str | None
    reply_to: str | None = REPLY_TO

    def message(self) -> aio_pika.Message:
        """The message, persistent."""
        return Message(
            self.body,
            headers=dict(self.headers),
            content_type=SIGMF_CONTENT_TYPE,
            delivery_mode=DeliveryMode.PERSISTENT,
            timestamp=datetime.now(UTC),  # What the worker measures the time in the queue from.
            message_id=self.job_id,
            correlation_id=self.correlation_id,
            reply_to=self.reply_to,
            user_id=self.user_id,
        )


def new_job_id() -> str:
    """A job id that no other job has."""
    return uuid.uuid4().hex


def make_job(
    capture: Capture,
    *,
    user_id: str | None,
    job_id: str | None = None,
    session_id: str | None = None,
    confidence: float | Sequence[float] | None = None,
    deadline_ms: int | None = None,
    cache_enabled: bool = True,
    continue_on_error: bool = True,
    reply_to: str | None = REPLY_TO,
    max_body_bytes: int = MAX_BODY_BYTES,
) -> Job:
    """Make a job of a capture.

    Args:
        capture: what to locate.
        user_id: the connection's user.
        job_id: 1-128 of `[A-Za-z0-9._-]`; default: a new one.
        session_id: groups the fixes of one source.
        confidence: of the ellipses, each in (0, 0.999]; default: the worker's.
        deadline_ms: Unix milliseconds after which nobody needs the answer.
        cache_enabled: whether a cached model output will do.
        continue_on_error: of a batch job: whether the other samples count when one fails.
        reply_to: where the answer goes; None = nowhere.
        max_body_bytes: over which a body is refused.

    Raises:
        CaptureError: something of that is not valid, or too large to send.
    """
    chosen = job_id or new_job_id()
    if JOB_ID.fullmatch(chosen) is None:
        raise CaptureError(f"job id {chosen!r}: it must be 1-128 of A-Z a-z 0-9 . _ -")
    headers = {
        "session_id": session_id,
        "confidence": _levels(confidence),
        "deadline_ms": deadline_ms,
        "cache_enabled": None if cache_enabled else False,
        "continue_on_error": None if continue_on_error else False,
        "sigmf": _metadata(capture),
    }
    given = {name: value for name, value in headers.items() if value is not None}
    _check(given)
    return Job(chosen, uuid.uuid4().hex, _body(capture, max_body_bytes), given, user_id, reply_to)


def with_claim(job: Job, claim: Claim) -> Job:
    """The same job with its body elsewhere."""
    return replace(job, body=b"", headers={**job.headers, "claim": claim.model_dump_json()})


def _levels(confidence: float | Sequence[float] | None) -> Decimal | list[Decimal] | None:
    if confidence is None:
        return None
    return _level(confidence) if isinstance(confidence, float | int) else [_level(one) for one in confidence]


def _level(confidence: float) -> Decimal:
    if not 0 < confidence <= MAX_CONFIDENCE:
        raise CaptureError(f"confidence {confidence:g}: it must be above 0 and at most {MAX_CONFIDENCE}, such as 0.95")
    # The AMQP library sends a float as 32 bits, and 0.9 would be asked for as 0.8999999761581421.
    return Decimal(str(round(confidence, _DECIMALS)))


def _metadata(capture: Capture) -> str:
    text = orjson.dumps(capture.metadata(), option=orjson.OPT_SERIALIZE_NUMPY)
    if len(text) > MAX_SIGMF_HEADER_BYTES:
        raise CaptureError(f"the metadata has {len(text)} bytes; a job takes {MAX_SIGMF_HEADER_BYTES}")
    return text.decode()


def _body(capture: Capture, most: int) -> bytes:
    body = capture.body()
    if len(body) > most:
        raise CaptureError(
            f"the IQ has {len(body)} bytes; RabbitMQ takes {most} in one message: send a shorter part, or publish it "
            "with a place for large bodies (heimdall publish --claims)"
        )
    return body


def _check(headers: Mapping[str, Any]) -> None:
    try:
        JobHeaders.model_validate(headers)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise CaptureError(f"{first['loc'][0]} {first['input']!r}: {first['msg']}") from None


def resampled_id(job_id: str | None) -> str | None:
    """The id of a job that repeats another at the model's rate: always the same, so that a retry finds its outcome."""
    return None if job_id is None else f"{job_id[:_KEPT_OF_ID]}.resampled"
