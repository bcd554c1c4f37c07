"""Publishing a batch: all its messages in one write, all its confirms awaited as one.

The library's own `basic_publish` takes a lock, a write, several futures and a timer per message, which for small jobs
costs more than all other work on them. `_Together` does for a batch what that method does for a message, and so leans
on attributes of the library's channel that are not public. Where a release of the library has other ones, or another
version is installed than those it was tested with, messages are published one by one through the public method.
"""

import asyncio
import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

import structlog
from aiormq.abc import AbstractChannel, ChannelFrame, ConfirmationFrameType
from aiormq.exceptions import ChannelInvalidStateError, DeliveryError, PublishError
from pamqp import frame
from pamqp.base import Frame
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

log = structlog.get_logger(__name__)

_TESTED_WITH: Final = ("7.2.",)
_LEANS_ON: Final = ("lock", "delivery_tag", "confirmations", "message_id_delivery_tag", "write_queue", "create_future")
_REFUSED: Final = (PublishError, DeliveryError)
"""Returned for want of a queue, and refused by a full one; both concern one message alone."""


@dataclass(frozen=True, slots=True)
class Publication:
    """A message to publish, and whether somebody must take it."""

    exchange: str
    routing_key: str
    body: bytes
    content_type: str
    mandatory: bool = False
    persistent: bool = False
    correlation_id: str | None = None
    headers: dict[str, Any] = field(default_factory=dict)


class Publisher:
    """Publishes on one channel, which must be in confirm mode and raise returns.

    Args:
        channel: of the library.
        together: whether batches are written at once; default: where this version of the library allows it.
    """

    def __init__(self, channel: AbstractChannel, *, together: bool | None = None) -> None:
        self._channel = channel
        self.together = _can_publish_together(channel) if together is None else together

    async def publish(self, publications: Sequence[Publication]) -> list[bool]:
        """Publish, and await the confirms.

        Returns:
            Per message whether it was taken: neither returned for want of a queue nor refused by a full one.

        Raises:
            aiormq.exceptions.AMQPError, ConnectionError: the channel or connection is gone.
        """
        if not publications:
            return []
        return await (self._together(publications) if self.together else self._one_by_one(publications))

    async def _one_by_one(self, publications: Sequence[Publication]) -> list[bool]:
        results = await asyncio.gather(*(self._publish(p) for p in publications), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return [result is True for result in results]

    async def _publish(self, publication: Publication) -> bool:
        try:
            confirmation = await self._channel.basic_publish(
                publication.body,
                exchange=publication.exchange,
                routing_key=publication.routing_key,
                properties=_properties(publication),
                mandatory=publication.mandatory,
            )
        except _REFUSED:
            return False
        return isinstance(confirmation, Basic.Ack)

    async def _together(self, publications: Sequence[Publication]) -> list[bool]:
        channel: Any = self._channel
        async with channel.lock:
            confirms = _Confirms(channel.create_future(), len(publications))
            payload = b"".join(self._register(index, p, confirms) for index, p in enumerate(publications))
            try:
                await channel.write_queue.put(ChannelFrame(payload, should_close=False))
            except BaseException:
                # The tags are spent though nothing was written: this channel can count no more.
                await asyncio.shield(channel.close(ChannelInvalidStateError("a batch was interrupted in its write")))
                raise
        try:
            await confirms.all
        finally:
            for message_id in confirms.message_ids:
                channel.message_id_delivery_tag.pop(message_id, None)
        return confirms.taken

    def _register(self, index: int, publication: Publication, confirms: "_Confirms") -> bytes:
        """Expect the confirm of one message; its frames."""
        channel: Any = self._channel
        properties = _properties(publication)
        channel.delivery_tag += 1
        channel.confirmations[channel.delivery_tag] = _Confirm(confirms, index)
        if publication.mandatory:  # The library finds a returned message by its id.
            channel.message_id_delivery_tag[properties.message_id] = channel.delivery_tag
            confirms.message_ids.append(properties.message_id or "")
        return _frames(publication, properties, channel.number, channel.max_content_size)


class _Confirms:
    """What becomes of the messages of a batch; `all` is done when the last one is known."""

    def __init__(self, all_: "asyncio.Future[None]", count: int) -> None:
        self.all = all_
        self.taken = [False] * count
        self.message_ids: list[str] = []
        self._missing = count

    def settle(self, index: int, *, taken: bool) -> None:
        """Note one."""
        self.taken[index] = taken
        self._missing -= 1
        if not self._missing and not self.all.done():
            self.all.set_result(None)


class _Confirm:
    """What the library's channel finds in place of a future for each confirm."""

    __slots__ = ("_confirms", "_index")

    def __init__(self, confirms: _Confirms, index: int) -> None:
        self._confirms = confirms
        self._index = index

    def done(self) -> bool:
        """Whether nobody waits any more."""
        return self._confirms.all.done()

    def cancelled(self) -> bool:
        """Whether the wait was given up."""
        return self._confirms.all.cancelled()

    def set_result(self, _: ConfirmationFrameType) -> None:
        """The broker took the message."""
        self._confirms.settle(self._index, taken=True)

    def set_exception(self, _: BaseException) -> None:
        """The broker returned the message, or refused it."""
        self._confirms.settle(self._index, taken=False)


def _can_publish_together(channel: AbstractChannel) -> bool:
    version = importlib.metadata.version("aiormq")
    able = version.startswith(_TESTED_WITH) and all(hasattr(channel, name) for name in _LEANS_ON)
    if not able:
        log.warning("broker.publishes_one_by_one", aiormq=version, tested_with=_TESTED_WITH)
    return able


def _properties(publication: Publication) -> Basic.Properties:
    return Basic.Properties(
        content_type=publication.content_type,
        headers=publication.headers or None,
        correlation_id=publication.correlation_id,
        delivery_mode=2 if publication.persistent else 1,
        message_id=uuid4().hex if publication.mandatory else None,
    )


def _frames(publication: Publication, properties: Basic.Properties, channel: int, most: int) -> bytes:
    """Method, header and body frames (AMQP 0-9-1, section 4.2.6.1); a body is cut to the frame size agreed on."""
    body = publication.body
    method = Basic.Publish(
        exchange=publication.exchange, routing_key=publication.routing_key, mandatory=publication.mandatory
    )
    header = ContentHeader(properties=properties, body_size=len(body))
    pieces = [ContentBody(body[start : start + most]) for start in range(0, len(body), most)]
    parts: list[Frame | ContentHeader | ContentBody] = [method, header, *pieces]
    return b"".join(frame.marshal(part, channel) for part in parts)
