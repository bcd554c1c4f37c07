"""A job as the broker delivered it, its envelope checked. The body is not looked at here."""

import struct
import time
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError

from schemas.job import (
    JOB_ID,
    JSON_CONTENT_TYPE,
    MAX_CORRELATION_ID,
    MAX_SIGMF_HEADER_BYTES,
    SIGMF_CONTENT_TYPE,
    JobHeaders,
)
from schemas.problems import ProblemError
from worker.amqp.frames import UNREADABLE
from worker.amqp.message import Message
from worker.amqp.replies import refuse_reply_to
from worker.amqp.session import AmqpSession
from worker.errors import JobError, MalformedEnvelope, TooLarge

_CONTENT_TYPES: Final = (SIGMF_CONTENT_TYPE, JSON_CONTENT_TYPE)
_DEFAULTS: Final = JobHeaders()
_SUSPICIOUS_DELIVERIES: Final = 2
_LARGEST_SINGLE: Final = 3.4028234e38
_READ: Final = frozenset(JobHeaders.model_fields)


@dataclass(eq=False, slots=True, weakref_slot=True)
class Delivery:
    """One delivery of one job.

    Attributes:
        session: that delivered it, and alone can settle it.
        message: as the broker delivered it.
        job_id: None where the message has no valid one.
        reply_to: None where there is none, or where the one there is was refused.
        headers: as validated; the defaults where they are not valid.
        sigmf: the header of that name.
        problem: what is wrong with the envelope, or None.
        redelivered: the broker delivered it before.
        crashes: how often the broker delivered it before, as far as it says.
        received: monotonic seconds.
        fetched: the dataset that the job's claim refers to, once it is here.
    """

    session: AmqpSession
    message: Message
    job_id: str | None
    content_type: str
    correlation_id: str | None
    reply_to: str | None
    user_id: str | None
    headers: JobHeaders
    sigmf: str | bytes | None
    problem: JobError | None
    redelivered: bool
    crashes: int
    received: float = field(default_factory=time.monotonic)
    fetched: bytes | None = None

    @property
    def open(self) -> bool:
        """Whether it is still to be settled."""
        return self.session.holds(self.message)

    @property
    def held(self) -> bool:
        """Whether it is still to be settled, by a session that can."""
        return self.open and not self.session.lost.is_set()

    @property
    def body(self) -> bytes:
        """The message's body; empty where the job has a claim."""
        return self.message.body

    @property
    def dataset(self) -> bytes:
        """The job's body, wherever it came from."""
        return self.message.body if self.fetched is None else self.fetched

    @property
    def claimed_digest(self) -> bytes | None:
        """SHA-256 that the claim states: a repeat is known by it without a fetch. None where the body is here."""
        claim = self.headers.claim
        return None if claim is None or self.message.body else bytes.fromhex(claim.sha256)

    @property
    def suspect(self) -> bool:
        """Seen twice before: a worker may have died of it, so it runs alone."""
        return self.crashes >= _SUSPICIOUS_DELIVERIES

    @property
    def queued_s(self) -> float | None:
        """Seconds from publish to delivery, where the publisher set a timestamp; it has whole seconds only."""
        stamp = self.message.timestamp
        return max(0.0, time.time() - stamp.timestamp()) if stamp else None


def read_delivery(session: AmqpSession, message: Message, max_body_bytes: int) -> Delivery:
    """Check the envelope of a message. Never raises: what is wrong stands in `problem`."""
    problem: JobError | None = None
    headers = _DEFAULTS
    raw = message.headers
    try:
        _check_properties(message)
        if len(message.body) > max_body_bytes:
            detail = f"the body has {len(message.body)} bytes; the limit is {max_body_bytes}"
            raise TooLarge(detail, [ProblemError(detail=detail, pointer="body", expected=max_body_bytes)])
        headers = _read_headers(raw)
    except JobError as error:
        problem = error.as_value()
    refused = refuse_reply_to(message.reply_to, message.user_id)
    # Of a first delivery the header would be the publisher's own word.
    count = raw.get("x-delivery-count", 1) if message.redelivered else 0
    sigmf = raw.get("sigmf")
    return Delivery(
        session=session,
        message=message,
        job_id=message.message_id if message.message_id and JOB_ID.fullmatch(message.message_id) else None,
        content_type=message.content_type or "",
        correlation_id=message.correlation_id,
        reply_to=None if refused else message.reply_to,
        user_id=message.user_id,
        headers=headers,
        sigmf=sigmf if isinstance(sigmf, str | bytes) else None,
        problem=refused or problem,
        redelivered=message.redelivered,
        crashes=count if isinstance(count, int) else 0,
    )


def _check_properties(message: Message) -> None:
    if not message.message_id or not JOB_ID.fullmatch(message.message_id):
        raise MalformedEnvelope(
            f"message_id is {message.message_id!r:.140}; it must be the job id, 1-128 of A-Z a-z 0-9 . _ -"
        )
    if message.content_type not in _CONTENT_TYPES:
        raise MalformedEnvelope(
            f"content_type is {message.content_type!r:.140}; it must be {' or '.join(_CONTENT_TYPES)}"
        )
    if len(message.correlation_id or "") > MAX_CORRELATION_ID:
        raise MalformedEnvelope(f"correlation_id is longer than {MAX_CORRELATION_ID} characters")


def _read_headers(raw: dict[str, Any]) -> JobHeaders:
    if UNREADABLE in raw:
        raise MalformedEnvelope(f"the headers cannot be read ({raw[UNREADABLE]}): they are nested too deep, or no AMQP")
    asked = {name: _plain(name, raw[name]) for name in _READ & raw.keys()}
    if not asked:
        return _DEFAULTS
    sigmf = asked.get("sigmf")
    if isinstance(sigmf, str) and len(sigmf.encode(errors="replace")) > MAX_SIGMF_HEADER_BYTES:
        raise TooLarge(f"the header `sigmf` is longer than {MAX_SIGMF_HEADER_BYTES} bytes")
    try:
        return JobHeaders.model_validate(asked)
    except ValidationError as error:
        found = [
            ProblemError(detail=e["msg"][:300], pointer="headers/" + "/".join(map(str, e["loc"])))
            for e in error.errors(include_url=False, include_input=False)[:5]
        ]
        raise MalformedEnvelope("; ".join(f"{f.pointer}: {f.detail}" for f in found), found) from None


def _plain(name: str, value: Any) -> Any:
    """A header's value as its sender meant it: some clients send text as bytes, and numbers in single precision."""
    if isinstance(value, list):
        return [_plain(name, element) for element in value]
    if isinstance(value, float):
        single = struct.unpack("f", struct.pack("f", value))[0] if abs(value) <= _LARGEST_SINGLE else value
        return float(f"{value:.7g}") if single == value else value
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise MalformedEnvelope(f"the header {name} is not UTF-8") from None
