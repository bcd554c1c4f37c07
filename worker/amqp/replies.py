"""Where replies may go, and how they are sent there."""

import re
from typing import Final

from worker.amqp.publishing import Publication
from worker.errors import MalformedEnvelope

_DIRECT: Final = "amq.rabbitmq.reply-to."
_UNGUESSABLE: Final = re.compile(r"amq\.(rabbitmq\.reply-to|gen-)[\x21-\x7e]{1,200}", re.ASCII)
_NAME: Final = re.compile(r"[^.]+")
_USER_QUEUE: Final = "heimdall.reply."
_MAX_QUEUE_NAME: Final = 255


def refuse_reply_to(reply_to: str | None, user_id: str | None) -> MalformedEnvelope | None:
    """Where replies may go: an address nobody can guess, or a queue under the job's broker-validated user."""
    if not reply_to or _UNGUESSABLE.fullmatch(reply_to):
        return None
    own = f"{_USER_QUEUE}{user_id}." if user_id else None
    # No dot in the rest: `heimdall.reply.alice.admin.q` belongs to the user `alice.admin`, not to `alice`.
    if own and reply_to.startswith(own) and _NAME.fullmatch(reply_to, len(own)) and len(reply_to) <= _MAX_QUEUE_NAME:
        return None
    return MalformedEnvelope(
        f"reply_to {reply_to!r:.140} is refused: use direct reply-to, a queue the broker named (amq.gen-…), or "
        f"{_USER_QUEUE}<user>.<name> with user_id set to <user>"
    )


def reply_publication(reply_to: str, body: bytes, content_type: str, correlation_id: str | None) -> Publication:
    """A reply. Mandatory, so that one that no queue takes is known, unless it goes by direct reply-to.

    There the broker finds no queue, and sends every mandatory message back, also one that it hands to its requester
    (seen with RabbitMQ 3.10). Whether the requester is still there cannot be known.
    """
    return Publication(
        exchange="",
        routing_key=reply_to,
        body=body,
        content_type=content_type,
        mandatory=not reply_to.startswith(_DIRECT),
        correlation_id=correlation_id,
    )
