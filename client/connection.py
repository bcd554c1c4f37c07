"""The client's way to the broker: one link, replaced when it breaks."""

import asyncio

from client.errors import HeimdallError
from client.link import Link, OnReply, check_url, open_link, user_of


class Connection:
    """Holds a link open. Any number of tasks may share it.

    Args:
        url: `amqp://user:password@host:port/vhost`, or `amqps://`.
        timeout: seconds for connecting, repeats included.
        on_reply: called with every reply; must not block.

    Raises:
        CaptureError: no AMQP URL.
    """

    def __init__(self, url: str, timeout: float, on_reply: OnReply) -> None:
        self._url = check_url(url)
        self._timeout = timeout
        self._on_reply = on_reply
        self._link: Link | None = None
        self._linking = asyncio.Lock()
        self._open = False

    @property
    def user(self) -> str | None:
        """Whom jobs state as their publisher; None where only the broker knows."""
        return user_of(self._url)

    async def open(self) -> None:
        """Connect.

        Raises:
            BrokerUnreachable: not within the timeout.
        """
        self._open = True
        await self.linked()

    async def close(self) -> None:
        """Disconnect; never raises and never takes long."""
        self._open = False
        if self._link is not None:
            await self._link.close()

    async def linked(self) -> Link:
        """A link that was whole a moment ago.

        Raises:
            BrokerUnreachable: the one before is lost, and none could be made within the timeout.
            HeimdallError: closed.
        """
        async with self._linking:
            if not self._open:
                raise HeimdallError("the client is closed: use it inside `async with HeimdallClient(url) as client`")
            if self._link is not None and self._link.lost.done():
                await self._link.close()
                self._link = None
            if self._link is None:
                self._link = await open_link(self._url, self._on_reply, timeout=self._timeout)
            return self._link
