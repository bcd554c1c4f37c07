"""A dead letter: what failed, why, and what a replay of it publishes.

Letters of the worker carry `heimdall-*` headers; letters that the broker makes itself carry `x-death` alone.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from aio_pika.abc import AbstractIncomingMessage
from blake3 import blake3
from pydantic import ValidationError

from schemas.claim import Claim
from schemas.job import JOB_ID, JobHeaders
from schemas.time import format_datetime_ns, parse_datetime_ns
from worker.input_digest import input_digest

REPLAYED_HEADERS: Final = frozenset(JobHeaders.model_fields) - {"deadline_ms"}
"""All that a worker reads, but for the deadline: it has passed, and the job would end as `expired`, dead no more."""

_SAID: Final = "heimdall-"
_NS_PER_S: Final = 1_000_000_000
_UNFIT: Final = re.compile(r"[^A-Za-z0-9._-]")
_KEPT_OF_ID: Final = 100


@dataclass(frozen=True, slots=True, eq=False)
class Letter:
    """One dead letter, without its body.

    Attributes:
        job_id: None where the job had none.
        code: of the error table; `broker:` and the broker's reason where the broker made the letter.
        publisher: user that published the job; None where it did not say.
        failed_ns: Unix time, nanoseconds; None where the letter does not say.
        body_bytes, body_digest: of the body.
        input_digest: as the job's outcome carries it.
        headers: of the job, as far as a replay needs them.
        capsule: what else is known of the failure: model digest, batch mates, versions.
        reply_to: only where nobody has answered the job yet.
    """

    job_id: str | None
    code: str
    reason: str
    publisher: str | None
    worker: str | None
    model_version: str | None
    failed_ns: int | None
    body_bytes: int
    body_digest: str
    input_digest: str
    content_type: str | None
    correlation_id: str | None
    routing_key: str | None
    reply_to: str | None
    headers: Mapping[str, Any]
    capsule: Mapping[str, Any]

    @property
    def batch_mates(self) -> list[str]:
        """Jobs that were in the same micro-batch."""
        return list(self.capsule.get("batch-mates", ()))

    @property
    def failed_at(self) -> str | None:
        """RFC 3339."""
        return None if self.failed_ns is None else format_datetime_ns(self.failed_ns)

    def new_id(self) -> str:
        """Another id for the same job: always the same one, so that a second replay is a repeat, not a second job."""
        kept = _UNFIT.sub("_", self.job_id or "job")[:_KEPT_OF_ID]
        seed = "\0".join((self.job_id or "", self.body_digest, str(self.headers.get("sigmf", ""))))
        return f"{kept}.replay-{blake3(seed.encode()).hexdigest()[:12]}"

    def document(self) -> dict[str, Any]:
        """For scripts."""
        return {
            "job_id": self.job_id,
            "code": self.code,
            "reason": self.reason,
            "failed_at": self.failed_at,
            "publisher": self.publisher,
            "worker": self.worker,
            "model_version": self.model_version,
            "content_type": self.content_type,
            "correlation_id": self.correlation_id,
            "routing_key": self.routing_key,
            "body_bytes": self.body_bytes,
            "body_digest": self.body_digest,
            "input_digest": self.input_digest,
            "capsule": dict(self.capsule),
            "headers": dict(self.headers),
        }


def read_letter(message: AbstractIncomingMessage) -> Letter:
    """Read a message of the dead-letter queue. Never raises: what is missing is None."""
    headers = {name: _text(value) for name, value in (message.headers or {}).items()}
    said = {name.removeprefix(_SAID): value for name, value in headers.items() if name.startswith(_SAID)}
    death = _first_death(headers)
    job_id = said.pop("job-id", None) or message.message_id
    made_by_worker = "code" in said
    publisher = _optional(said.pop("publisher", None) or message.user_id)
    body = blake3(message.body)
    claimed = None if message.body else _claimed_digest(headers)
    computed = input_digest(publisher, message.content_type, headers.get("sigmf"), claimed or body.digest())
    return Letter(
        job_id=str(job_id) if job_id else None,
        code=str(said.pop("code", None) or f"broker:{death.get('reason', 'unknown')}"),
        reason=str(said.pop("reason", None) or _broker_reason(death)),
        publisher=publisher,
        worker=_optional(said.pop("worker", None)),
        model_version=_optional(said.pop("model-version", None)),
        failed_ns=_instant(said.pop("failed-at", None)) or _instant(death.get("time")),
        body_bytes=len(message.body),
        body_digest=f"blake3:{body.hexdigest()}",
        # A header that was too long to travel is missing here, and the worker knew it.
        input_digest=str(said.pop("input-digest", None) or computed),
        content_type=message.content_type,
        correlation_id=message.correlation_id,
        routing_key=_optional(said.pop("routing-key", None)) or _first(death.get("routing-keys")),
        # What the worker dead-letters it has answered; nobody has answered what the broker does.
        reply_to=None if made_by_worker else message.reply_to,
        headers={name: headers[name] for name in sorted(REPLAYED_HEADERS & headers.keys())},
        capsule=said,
    )


def is_job_id(text: str | None) -> bool:
    """Whether a worker would take it."""
    return text is not None and JOB_ID.fullmatch(text) is not None


def _claimed_digest(headers: Mapping[str, Any]) -> bytes | None:
    """The digest that stands for the body of a job with a claim; None where there is no valid one."""
    try:
        return bytes.fromhex(Claim.model_validate_json(headers.get("claim") or "").sha256)
    except ValidationError:
        return None


def _first_death(headers: Mapping[str, Any]) -> Mapping[str, Any]:
    deaths = headers.get("x-death")
    first = deaths[0] if isinstance(deaths, list) and deaths else None
    return first if isinstance(first, dict) else {}


def _broker_reason(death: Mapping[str, Any]) -> str:
    reasons = {
        "expired": "the message's own expiration passed while it waited",
        "delivery_limit": "it was delivered more often than the queue's x-delivery-limit allows",
        "maxlen": "the queue was full",
        "rejected": "a consumer rejected it",
    }
    said = str(_text(death.get("reason", "")))
    return reasons.get(said, "the letter does not say why") + (
        f" ({_text(death['queue'])})" if "queue" in death else ""
    )


def _instant(value: Any) -> int | None:
    if isinstance(value, datetime):
        return int(value.timestamp()) * _NS_PER_S
    if not isinstance(value, str):
        return None
    try:
        return parse_datetime_ns(value)
    except ValueError:
        return None


def _first(values: Any) -> str | None:
    return str(_text(values[0])) if isinstance(values, list) and values else None


def _text(value: Any) -> Any:
    """Some clients send text as bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _optional(value: Any) -> str | None:
    return None if value is None else str(value)
