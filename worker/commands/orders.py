"""What an operator asks for, and whether the workers' answers agree with it."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.control import ALL_WORKERS, CommandReply
from worker.commands.change import Change
from worker.commands.fleet import Answers, Fleet, all_of
from worker.serving.rollout import PRODUCTION

Watch = Callable[["Outcome"], None]


@dataclass(frozen=True, slots=True)
class Order:
    """A command, and the change of the registry that goes before it.

    Attributes:
        title: as the user named it.
        command: that is broadcast.
        instance: the only worker addressed; None = all.
        change: made once, after the workers were found willing; None = nothing changes in the registry.
        model: registered model; workers that serve another one are not asked to agree.
    """

    title: str
    command: str
    model: str
    instance: str | None = None
    change: Callable[[], Change] | None = None

    @property
    def key(self) -> str:
        """The routing key."""
        return ALL_WORKERS if self.instance is None else f"worker.{self.instance}"


@dataclass(slots=True)
class Outcome:
    """How far an order has come.

    Attributes:
        order: as given.
        called: answers to the ping before it.
        answers: to the command.
        change: of the registry; None = none was made.
        command_id: of the broadcast; None = there was none.
    """

    order: Order
    called: Answers = field(default_factory=dict)
    answers: Answers = field(default_factory=dict)
    change: Change | None = None
    command_id: str | None = None

    @property
    def refused(self) -> bool:
        """Whether workers refused the very ping: then nothing was changed."""
        return any(not reply.ok for reply in self.called.values())

    @property
    def missing(self) -> list[str]:
        """Who was there, and has not answered."""
        return [] if self.refused else sorted(set(self.called) - set(self.answers))

    @property
    def complaints(self) -> dict[str, str]:
        """Instance → why its answer does not agree."""
        if self.refused:
            return {reply.instance: reply.detail for reply in self.called.values() if not reply.ok}
        parts = self._expected_parts()
        found = {name: _complaint(self.order.command, reply, parts) for name, reply in self.answers.items()}
        return {name: complaint for name, complaint in found.items() if complaint is not None}

    @property
    def agreed(self) -> bool:
        """Whether everybody who was there has answered as asked."""
        return bool(self.answers) and not self.missing and not self.complaints

    def _expected_parts(self) -> Mapping[str, str] | None:
        if self.order.command not in {"reload", "info"}:
            return None
        if self.change is not None:
            return self.change.parts
        common = Counter(tuple(sorted(parts_of(reply).items())) for reply in self.answers.values() if reply.ok)
        return dict(common.most_common(1)[0][0]) if common else None

    def document(self) -> dict[str, Any]:
        """For scripts."""
        complaints = self.complaints
        answers = self.called if self.refused else self.answers
        return {
            "order": self.order.title,
            "command": self.order.command,
            "command_id": self.command_id,
            "agreed": self.agreed,
            "registry": list(self.change.said) if self.change else [],
            "expected": self.change.parts if self.change else None,
            "workers": [
                reply.model_dump(exclude={"command_id", "command"})
                | {"agrees": instance not in complaints, "complaint": complaints.get(instance)}
                for instance, reply in sorted(answers.items())
            ],
            "missing": self.missing,
        }


def parts_of(reply: CommandReply) -> dict[str, str]:
    """Part → version that a worker serves."""
    return {served.alias.lower(): served.version for served in reply.serving}


def _complaint(command: str, reply: CommandReply, parts: Mapping[str, str] | None) -> str | None:
    if not reply.ok:
        return reply.detail
    if parts is not None and parts_of(reply) != parts:
        return f"serves {_listed(parts_of(reply))}, not {_listed(parts)}"
    paused = "paused" in reply.state
    if command == "pause" and not paused:
        return f"still takes jobs: {reply.state}"
    if command == "resume" and paused:
        return f"still takes none: {reply.state}"
    return None


def _listed(parts: Mapping[str, str]) -> str:
    return ", ".join(f"{part} {version}" for part, version in parts.items()) or "nothing"


async def carry_out(fleet: Fleet, order: Order, timeout: float, watch: Watch = lambda _: None) -> Outcome:
    """Call the roll, change the registry, tell the workers, and wait until they agree.

    Args:
        fleet: the workers.
        order: what to do.
        timeout: seconds that answers may take.
        watch: told whenever there is news.

    Raises:
        ModelRejected: the registry refuses; no worker was told anything.
        Unavailable: the registry does not answer; the same.
        BrokerUnreachable: the connection is gone.
    """
    outcome = Outcome(order)
    outcome.called = _of_model(await fleet.roll_call(order.key), order.model)
    watch(outcome)
    if outcome.refused:
        return outcome
    if order.change is not None:
        outcome.change = await asyncio.to_thread(order.change)
        watch(outcome)
    if not outcome.called:
        return outcome
    question = await fleet.ask(order.command, order.key, **_fields(outcome))
    if question is None:
        return outcome
    outcome.command_id = question.command_id

    def on_answer(answers: Answers) -> None:
        outcome.answers = _of_model(answers, order.model)
        watch(outcome)

    outcome.answers = _of_model(await question.until(all_of(outcome.called), timeout, on_answer), order.model)
    return outcome


def _fields(outcome: Outcome) -> dict[str, str]:
    """What a reload tells the workers to expect."""
    parts = outcome.change.parts if outcome.change else {}
    return {"expect": parts[PRODUCTION]} if outcome.order.command == "reload" and PRODUCTION in parts else {}


def _of_model(answers: Answers, model: str) -> Answers:
    """The workers of one registered model; one that serves nothing yet may be of any."""
    return {
        instance: reply
        for instance, reply in answers.items()
        if not reply.serving or any(served.name == model for served in reply.serving)
    }
