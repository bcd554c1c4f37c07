"""Publishing from a process without an event loop: many messages, then one wait for all their confirms."""

# mypy: disable-error-code="import-not-found"
# The library lives in the peer's own environment, not in the one that checks types.

from typing import Any, Final

import amqp
import kombu

from bench.peers.outcomes import JSON

TIMEOUT_S: Final = 30.0


class ConfirmedPublisher:
    """A channel of its own in confirm mode.

    Args:
        url: of the broker.
    """

    def __init__(self, url: str) -> None:
        self._connection: Any = kombu.Connection(url).connection
        self._channel: Any = self._connection.channel()
        self._channel.confirm_select()
        self._channel.events["basic_ack"].add(self._on_confirm)
        self._channel.events["basic_nack"].add(self._on_refusal)
        self._sent = 0
        self._open: set[int] = set()

    def send(self, body: bytes, exchange: str, routing_key: str, correlation_id: str | None = None) -> None:
        """Publish; `wait` awaits the confirm."""
        properties = {} if correlation_id is None else {"correlation_id": correlation_id}
        message = amqp.Message(body, content_type=JSON, delivery_mode=1, **properties)
        self._channel.basic_publish(message, exchange, routing_key)
        self._sent += 1
        self._open.add(self._sent)

    def wait(self) -> None:
        """Until everything that was sent is confirmed.

        Raises:
            RuntimeError: the broker refused a message.
            TimeoutError: a confirm does not come.
        """
        while self._open:
            self._connection.drain_events(timeout=TIMEOUT_S)

    def _on_confirm(self, tag: int, multiple: bool) -> None:  # noqa: FBT001 - the library's own callback
        if multiple:
            self._open = {number for number in self._open if number > tag}
        else:
            self._open.discard(tag)

    def _on_refusal(self, tag: int, multiple: bool) -> None:  # noqa: FBT001 - the library's own callback
        raise RuntimeError(f"the broker refused message {tag}{' and those before' if multiple else ''}")
