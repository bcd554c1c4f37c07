"""Commands of operators: who may give them is checked first, then what they say; every worker answers for itself."""

import asyncio
from collections import OrderedDict
from typing import Any, Final, Protocol

import structlog
from aio_pika.abc import AbstractIncomingMessage
from pydantic import ValidationError

from schemas.control import (
    ALL_WORKERS,
    COMMAND,
    EXCHANGE,
    Command,
    CommandReply,
    Drain,
    Info,
    Pause,
    Ping,
    Reload,
    Resume,
    ServedVersion,
)
from worker.amqp.replies import refuse_reply_to, reply_publication
from worker.amqp.session import STEP_TIMEOUT_S, AmqpSession
from worker.errors import HeimdallError, Unavailable
from worker.serving.model import Models
from worker.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

MAX_COMMAND_BYTES: Final = 4096
_REMEMBERED: Final = 1000


class Actions(Protocol):
    """What commands do; each returns what was done, or raises a `HeimdallError` that says why not."""

    def state(self) -> str:
        """Serving, or why not."""

    async def reload(self, expect: str | None) -> str:
        """Serve what the registry says."""

    async def pause(self, *, fleet: bool) -> str:
        """Take no jobs; for the fleet, if its tag in the registry says so."""

    async def resume(self, *, fleet: bool) -> str:
        """Take jobs again; for the fleet, unless its tag in the registry forbids."""

    async def drain(self) -> str:
        """Take no jobs, and return when nothing is held."""


class Control:
    """Hears and carries out commands.

    Args:
        instance: name of this worker.
        users: whose commands count; the broker has validated who sent them.
        actions: what commands do.
        models: what serves.
        metrics: counts commands.
    """

    def __init__(
        self,
        instance: str,
        users: tuple[str, ...],
        actions: Actions,
        models: Models,
        metrics: Metrics,
    ) -> None:
        self._instance = instance
        self._users = users
        self._actions = actions
        self._models = models
        self._metrics = metrics
        self._tasks: set[asyncio.Task[None]] = set()
        # By command id; of a command that is still carried out too, so that its repeat waits for the same answer.
        self._replies: OrderedDict[str, asyncio.Future[CommandReply]] = OrderedDict()

    async def listen(self, session: AmqpSession) -> None:
        """Hear commands in this session, on a queue of its own that goes with it."""
        queue = await session.control.declare_queue(exclusive=True, auto_delete=True, timeout=STEP_TIMEOUT_S)
        for key in (ALL_WORKERS, f"worker.{self._instance}"):
            await queue.bind(EXCHANGE, key, timeout=STEP_TIMEOUT_S)

        async def on_message(message: AbstractIncomingMessage) -> None:
            # A task of our own: the library cancels its callbacks when the channel closes, in mid-reload.
            task = asyncio.create_task(self._handle(session, message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        await queue.consume(on_message, no_ack=True, timeout=STEP_TIMEOUT_S)

    async def close(self) -> None:
        """End the commands under way."""
        carried_out = (reply for reply in self._replies.values() if not reply.done())
        under_way: list[asyncio.Future[Any]] = [*self._tasks, *carried_out]
        for future in under_way:
            future.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    async def _handle(self, session: AmqpSession, message: AbstractIncomingMessage) -> None:
        reply = await self._answer(message)
        self._metrics.commands.labels("done" if reply.ok else "refused").inc()
        log.info(
            "control.command",
            command=reply.command,
            command_id=reply.command_id,
            user=message.user_id,
            ok=reply.ok,
            detail=reply.detail,
        )
        if not message.reply_to or refuse_reply_to(message.reply_to, message.user_id):
            return
        body = reply.model_dump_json().encode()
        answer = reply_publication(message.reply_to, body, "application/json", message.correlation_id)
        try:
            if not all(await session.publish([answer])):
                log.warning("control.reply_lost", command_id=reply.command_id, error="no queue took it")
        except Unavailable as error:
            log.warning("control.reply_lost", command_id=reply.command_id, error=str(error))

    async def _answer(self, message: AbstractIncomingMessage) -> CommandReply:
        if message.user_id is None or message.user_id not in self._users:
            return self._reply(None, ok=False, detail=f"user {message.user_id!r} may not command this worker")
        if len(message.body) > MAX_COMMAND_BYTES:
            return self._reply(None, ok=False, detail=f"a command has at most {MAX_COMMAND_BYTES} bytes")
        try:
            command = COMMAND.validate_json(message.body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            return self._reply(None, ok=False, detail=f"no valid command: {first['loc']}: {first['msg']}")
        reply = self._replies.get(command.command_id)
        if reply is None:
            fleet = message.routing_key == ALL_WORKERS
            reply = self._replies[command.command_id] = asyncio.ensure_future(self._carry_out(command, fleet=fleet))
            if len(self._replies) > _REMEMBERED:
                self._replies.popitem(last=False)
        return await asyncio.shield(reply)

    async def _carry_out(self, command: Command, *, fleet: bool) -> CommandReply:
        try:
            return self._reply(command, ok=True, detail=await self._act(command, fleet=fleet))
        except HeimdallError as error:
            return self._reply(command, ok=False, detail=str(error))
        except Exception as error:
            log.exception("control.failed", command=command.command, command_id=command.command_id)
            return self._reply(command, ok=False, detail=f"failed unexpectedly: {type(error).__name__}: {error}")

    async def _act(self, command: Command, *, fleet: bool) -> str:
        match command:
            case Ping():
                return "pong"
            case Info():
                return "see `serving`"
            case Reload():
                return await self._actions.reload(command.expect)
            case Pause():
                return await self._actions.pause(fleet=fleet)
            case Resume():
                return await self._actions.resume(fleet=fleet)
            case Drain():
                return await self._actions.drain()

    def _reply(self, command: Command | None, *, ok: bool, detail: str) -> CommandReply:
        rollout = self._models.current
        return CommandReply(
            command_id=command.command_id if command else None,
            command=command.command if command else None,
            instance=self._instance,
            ok=ok,
            detail=detail,
            state=self._actions.state(),
            serving=[ServedVersion(**version.reference()) for version in (rollout.versions if rollout else ())],
        )
