"""The workers behind the control exchange: a command goes out to all or to one of them, and each answers for itself."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Final
from uuid import uuid4

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aio_pika.exceptions import AMQPError, ChannelClosed, DeliveryError, PublishError
from pydantic import ValidationError

from client.errors import BrokerUnreachable
from client.job import REPLY_TO
from client.link import check_url, user_of, without_password
from schemas.control import ALL_WORKERS, COMMAND, EXCHANGE, CommandReply

ROLL_CALL_S: Final = 1.0
"""A ping is answered within milliseconds; who stays silent so long is not expected to answer."""
_PATIENCE_S: Final = 5.0
"""How long the first answer may take where somebody listens."""
_HEARTBEAT_S: Final = 10

Answers = dict[str, CommandReply]
"""By instance."""


class Question:
    """A command that was sent, and the answers as they come.

    Args:
        command_id: the answers' correlation id.
    """

    def __init__(self, command_id: str) -> None:
        self.command_id = command_id
        self.answers: Answers = {}
        self._news = asyncio.Event()

    def add(self, reply: CommandReply) -> None:
        """Take an answer."""
        self.answers[reply.instance] = reply
        self._news.set()

    async def until(
        self, enough: Callable[[Answers], bool], timeout: float, on_answer: Callable[[Answers], None] = lambda _: None
    ) -> Answers:
        """Wait for enough answers, or the end of the time.

        Args:
            enough: whether to stop waiting.
            timeout: seconds.
            on_answer: told all answers whenever there are more.
        """
        try:
            async with asyncio.timeout(timeout):
                while not enough(self.answers):
                    self._news.clear()
                    await self._news.wait()
                    on_answer(self.answers)
        except TimeoutError:
            pass
        return dict(self.answers)


class Fleet:
    """All workers of a broker's virtual host. Made by `open_fleet`."""

    def __init__(self, channel: AbstractChannel, user: str | None) -> None:
        self.user = user
        """Who gives the commands; the broker checks it."""
        self._channel = channel
        self._questions: dict[str, Question] = {}

    async def roll_call(self, key: str = ALL_WORKERS) -> Answers:
        """Who is there, and may this user command them: the answers to a ping; empty where nobody listens."""
        question = await self.ask("ping", key)
        if question is None:
            return {}
        if key != ALL_WORKERS:
            return await question.until(bool, _PATIENCE_S)
        await asyncio.sleep(ROLL_CALL_S)
        return await question.until(bool, _PATIENCE_S - ROLL_CALL_S)

    async def ask(self, command: str, key: str = ALL_WORKERS, **fields: str) -> Question | None:
        """Give a command; None where no queue takes it.

        Raises:
            BrokerUnreachable: the connection is gone.
        """
        document = COMMAND.validate_python({"command": command, "command_id": uuid4().hex} | fields)
        question = self._questions[document.command_id] = Question(document.command_id)
        message = aio_pika.Message(
            document.model_dump_json(exclude_none=True).encode(),
            content_type="application/json",
            correlation_id=document.command_id,
            message_id=document.command_id,
            reply_to=REPLY_TO,
            user_id=self.user,
        )
        try:
            exchange = await self._channel.get_exchange(EXCHANGE, ensure=False)
            await exchange.publish(message, key, mandatory=True, timeout=_PATIENCE_S)
        except (PublishError, DeliveryError):
            return None
        except ChannelClosed as error:
            if "NOT_FOUND" in str(error):  # No worker has ever declared the exchange.
                return None
            raise BrokerUnreachable(f"the broker refuses the command: {error}") from error
        except (AMQPError, OSError, RuntimeError, TimeoutError) as error:
            raise BrokerUnreachable(f"the broker does not take the command: {error!r}") from error
        return question

    async def listen(self) -> None:
        """Hear answers."""
        replies = await self._channel.get_queue(REPLY_TO, ensure=False)
        await replies.consume(self._on_reply, no_ack=True)

    async def _on_reply(self, message: AbstractIncomingMessage) -> None:
        question = self._questions.get(message.correlation_id or "")
        if question is None:
            return
        try:
            question.add(CommandReply.model_validate_json(message.body))
        except ValidationError:
            return  # No worker of a release we know; it counts as one that does not answer.


@asynccontextmanager
async def open_fleet(url: str, timeout: float = _PATIENCE_S) -> AsyncIterator[Fleet]:
    """Connect to the broker.

    Raises:
        CaptureError: the URL is none.
        BrokerUnreachable: no connection within the timeout, or the login was refused.
    """
    connection = await connect(url, timeout)
    async with connection:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        fleet = Fleet(channel, user_of(check_url(url)))
        await fleet.listen()
        yield fleet


async def connect(url: str, timeout: float = _PATIENCE_S) -> aio_pika.abc.AbstractConnection:
    """A plain connection, as an operator's.

    Raises:
        CaptureError: the URL is none.
        BrokerUnreachable: no connection within the timeout, or the login was refused.
    """
    parsed = check_url(url)
    try:
        return await aio_pika.connect(
            parsed if "heartbeat" in parsed.query else parsed.update_query(heartbeat=_HEARTBEAT_S),
            timeout=timeout,
            client_properties={"connection_name": "heimdall ctl"},
        )
    except (AMQPError, OSError, RuntimeError, TimeoutError) as error:
        raise BrokerUnreachable(
            f"no connection to {without_password(parsed)}: {str(error) or type(error).__name__}"
        ) from error


def all_of(expected: Collection[str]) -> Callable[[Answers], bool]:
    """Whether everybody expected has answered."""
    return lambda answers: all(instance in answers for instance in expected)
