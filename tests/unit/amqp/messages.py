"""A message as the library hands it out: the attributes that the worker reads, and nothing else."""

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.support.graphs import metadata, tone


@dataclass
class Message:
    """An incoming message."""

    body: bytes = b"x"
    message_id: str | None = "job-1"
    content_type: str | None = "application/octet-stream"
    correlation_id: str | None = None
    reply_to: str | None = None
    user_id: str | None = None
    headers: dict[str, Any] = field(default_factory=dict)
    redelivered: bool | None = False
    delivery_tag: int | None = 1
    timestamp: datetime | None = None
    routing_key: str | None = None


def sigmf_message(channels: int = 1, *, seed: int = 0, info: dict[str, Any] | None = None, **changes: Any) -> Message:
    """A job with a tone, and a changed global object of its metadata."""
    headers = {"sigmf": json.dumps(metadata(channels, **(info or {})))} | changes.pop("headers", {})
    body = changes.pop("body", tone(seed, channels=channels))
    return Message(body=body, headers=headers, **changes)
