"""A message as the broker delivered it, flat: what the library spreads over three frames, and no more."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from aiormq.abc import DeliveredMessage


@dataclass(eq=False, slots=True)
class Message:
    """One delivery.

    Attributes:
        delivery_tag: valid on the channel that delivered it alone.
        redelivered: the broker delivered it before.
        routing_key: that it was published with.
        headers: as decoded; never to be copied to another message.
        timestamp: of the publisher, in whole seconds.
    """

    delivery_tag: int
    redelivered: bool
    body: bytes
    routing_key: str | None = None
    message_id: str | None = None
    content_type: str | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    user_id: str | None = None
    headers: dict[str, Any] = field(default_factory=dict)
    timestamp: datetime | None = None


def message_of(delivered: DeliveredMessage) -> Message:
    """Flatten what the library delivers."""
    properties = delivered.header.properties
    tag = delivered.delivery_tag
    assert tag is not None
    return Message(
        delivery_tag=tag,
        redelivered=bool(delivered.redelivered),
        body=delivered.body,
        routing_key=delivered.routing_key,
        message_id=properties.message_id or None,
        content_type=properties.content_type or None,
        correlation_id=properties.correlation_id or None,
        reply_to=properties.reply_to or None,
        user_id=properties.user_id or None,
        headers=dict(properties.headers or {}),
        timestamp=properties.timestamp,
    )
