"""Publishing a batch: all its messages in one write, all its confirms awaited as one.

The library's own `basic_publish` takes a lock, a write, several futures and a timer per message, which for small jobs
costs more than all other work on them. `_Together` does for a batch what that method does for a message, and so leans
on attributes of the library's channel that are not public. Where a release of the library has other ones, or another
version is installed than those it was tested with, messages are published one by one through the public method.
"""

import asyncio
import importlib.metadata
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final
from uuid import uuid4

import structlog
from aiormq.abc import AbstractChannel, ChannelFrame, ConfirmationFrameType
from aiormq.exceptions import ChannelInvalidStateError, DeliveryError, PublishError
from pamqp.commands import Basic
from pamqp.encode import field_table

log = structlog.get_logger(__name__)

_TESTED_WITH: Final = ("7.2.",)
_LEANS_ON: Final = ("lock", "delivery_tag", "confirmations", "message_id_delivery_tag", "write_queue", "create_future")
_REFUSED: Final = (PublishError, DeliveryError)
"""Returned for want of a queue, and refused by a full one; both concern one message alone."""
_DELIVERY_MODE: Final = {False: 1, True: 2}

# AMQP 0-9-1: section 4.2.3 for the frame, 4.2.6.1 for the flags of the properties.
_FRAME: Final = struct.Struct(">BHI")
_FRAME_END: Final = b"\xce"
_METHOD, _HEADER, _BODY = 1, 2, 3
_BASIC: Final = 60
_PUBLISH: Final = struct.pack(">HHH", _BASIC, 40, 0)
_CONTENT: Final = struct.Struct(">HHQH")
_CONTENT_TYPE, _HEADERS, _MODE, _CORRELATION_ID, _MESSAGE_ID = 1 << 15, 1 << 13, 1 << 12, 1 << 10, 1 << 7


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
        self._name = uuid4().hex
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
            try:
                payload = b"".join(self._register(index, p, confirms) for index, p in enumerate(publications))
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
        channel.delivery_tag += 1
        channel.confirmations[channel.delivery_tag] = _Confirm(confirms, index)
        message_id = None
        if publication.mandatory:  # The library finds a returned message by its id.
            message_id = f"{self._name}-{channel.delivery_tag}"
            channel.message_id_delivery_tag[message_id] = channel.delivery_tag
            confirms.message_ids.append(message_id)
        return _frames(publication, message_id, channel.number, channel.max_content_size)


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
        delivery_mode=_DELIVERY_MODE[publication.persistent],
    )


def _frames(publication: Publication, message_id: str | None, channel: int, most: int) -> bytes:
    """Method, header and body frames (AMQP 0-9-1, sections 2.3.5.1 and 4.2.6); a body is cut to the agreed size.

    Packed here and not by the library's general encoder, which takes four times as long.
    """
    body = publication.body
    method = _method(publication.exchange, publication.routing_key, publication.mandatory)
    parts = [_frame(_METHOD, channel, method), _frame(_HEADER, channel, _header(publication, message_id))]
    parts += [_frame(_BODY, channel, body[start : start + most]) for start in range(0, len(body), most)]
    return b"".join(parts)


def _frame(kind: int, channel: int, payload: bytes) -> bytes:
    return b"".join((_FRAME.pack(kind, channel, len(payload)), payload, _FRAME_END))


@lru_cache(maxsize=1024)
def _method(exchange: str, routing_key: str, mandatory: bool) -> bytes:  # noqa: FBT001 - a cache knows positions best
    """Arguments of Basic.Publish: a reserved short, two short strings, and the bits mandatory and immediate."""
    return b"".join((_PUBLISH, _short(exchange), _short(routing_key), bytes((mandatory,))))


def _header(publication: Publication, message_id: str | None) -> bytes:
    """Class, weight, body size, flags of the properties that are there, and these in the order of their flags."""
    flags = _CONTENT_TYPE | _MODE
    parts = [_short(publication.content_type)]
    if publication.headers:
        flags |= _HEADERS
        parts.append(field_table(publication.headers))
    parts.append(bytes((_DELIVERY_MODE[publication.persistent],)))
    if publication.correlation_id:
        flags |= _CORRELATION_ID
        parts.append(_short(publication.correlation_id))
    if message_id:
        flags |= _MESSAGE_ID
        parts.append(_short(message_id))
    return _CONTENT.pack(_BASIC, 0, len(publication.body), flags) + b"".join(parts)


def _short(text: str) -> bytes:
    """A short string: its length in one octet, and its UTF-8."""
    encoded = text.encode()
    return bytes((len(encoded),)) + encoded
