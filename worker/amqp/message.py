"""A message as the broker delivered it, flat: what the protocol spreads over three frames, and no more."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


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
