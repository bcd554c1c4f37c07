"""What the map knows: the last fixes of each session, receivers, failures and models, all of it bounded.

No clock, no input and output: times are arguments. Whoever shows the state asks what is new since his last look, by a
number that grows with every change; so a slow viewer costs nothing but the time he is behind.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Final

import orjson

from client.map.drawing import Drawn, drawn_fix, drawn_receivers
from schemas.events import CompleteEvent, FailedEvent
from schemas.problems import Problem
from schemas.result import ModelReference

COLOURS: Final = 10
"""Sessions are told apart by as many colours; then they repeat."""
_RATE_S: Final = 10
"""Over so many whole seconds results per second are counted."""
_FIXES_PER_UPDATE: Final = 500
"""About 1.5 MB; a viewer who is further behind asks again."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is kept, and for how long."""

    fixes_per_session: int = 100
    sessions: int = 50
    receivers: int = 300
    failures: int = 100
    models: int = 20
    forget_s: float = 1800.0
    """What was not heard of for so long is forgotten."""


@dataclass(frozen=True, slots=True)
class KeptFix:
    """A fix as it is drawn, and the change that brought it."""

    number: int
    key: str
    text: bytes


@dataclass(slots=True)
class Session:
    """The last fixes of one source, in the order in which they came."""

    name: str | None
    colour: int
    fixes: deque[KeptFix] = field(default_factory=deque)
    keys: set[str] = field(default_factory=set)
    seen_s: float = 0.0
    total: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """A job or sample without a position."""

    number: int
    heard_s: float
    problem: Problem


@dataclass(slots=True)
class ModelSeen:
    """A version that answered."""

    model: ModelReference
    results: int = 0
    seen_s: float = 0.0


@dataclass(slots=True)
class _Receiver:
    place: dict[str, Any]
    seen_s: float


class LiveState:
    """All that is shown.

    Args:
        limits: how much is kept.

    Attributes:
        sessions: by name, the one heard of last at the end; None holds fixes without a session.
        failures: oldest first.
        models: by name, version and alias, the one heard of last at the end.
        results: how many came since the start.
        failed: how many failures.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.sessions: OrderedDict[str | None, Session] = OrderedDict()
        self.failures: deque[Failure] = deque(maxlen=limits.failures)
        self.models: OrderedDict[tuple[str, str, str], ModelSeen] = OrderedDict()
        self.results = 0
        self.failed = 0
        self._receivers: OrderedDict[str, _Receiver] = OrderedDict()
        self._changes = 0
        self._receivers_changed = 0
        self._begun = 0
        self._per_second: deque[tuple[int, int]] = deque(maxlen=_RATE_S + 1)

    def add(self, event: CompleteEvent | FailedEvent, now_s: float) -> None:
        """Take an event in; a fix that is held already is not held twice."""
        if isinstance(event, FailedEvent):
            self.failed += 1
            self.failures.append(Failure(self._changed(), now_s, event.data))
            return
        self.results += 1
        self._count(now_s)
        self._see_model(event.data.model, now_s)
        for identity, place in drawn_receivers(event.data).items():
            self._see_receiver(identity, place, now_s)
        self._see_fix(drawn_fix(event.data), event.data.session_id, now_s)

    def forget(self, now_s: float) -> None:
        """Let go of what was not heard of for long."""
        before_s = now_s - self.limits.forget_s
        if _forget(self._receivers, before_s):
            self._receivers_changed = self._changed()
        old = _forget(self.sessions, before_s) + _forget(self.models, before_s)
        while self.failures and self.failures[0].heard_s < before_s:
            self.failures.popleft()
            old += 1
        if old:
            self._changed()

    def since(self, seen: int) -> bytes | None:
        """What is new to a viewer, as JSON.

        Args:
            seen: `change` of the update that he has seen last; 0 for none.

        Returns:
            `{change, sessions: {name: [number of its first fix, colour]}, fixes: [...], receivers: [...] | null}`;
            None where nothing changed. A fix with a number below its session's first is to be dropped, and so is all
            of a session that is not named. Receivers are all there are, or null where they are the same as before.
            The name of fixes without a session is empty. A viewer who is far behind gets the older fixes first.
        """
        if seen == self._changes:
            return None
        fixes = sorted(
            (fix for session in self.sessions.values() for fix in _newer(session.fixes, seen)),
            key=lambda fix: fix.number,
        )
        sent, more = fixes[:_FIXES_PER_UPDATE], len(fixes) > _FIXES_PER_UPDATE
        return orjson.dumps(
            {
                "change": sent[-1].number if more else self._changes,
                "sessions": {name or "": [kept.fixes[0].number, kept.colour] for name, kept in self.sessions.items()},
                "fixes": [orjson.Fragment(fix.text) for fix in sent],
                "receivers": self._places() if self._receivers_changed > seen else None,
            }
        )

    def per_second(self, now_s: float) -> float:
        """Results per second, over the last ten whole seconds."""
        this = int(now_s)
        return sum(count for second, count in self._per_second if this - _RATE_S <= second < this) / _RATE_S

    @property
    def fixes(self) -> int:
        """How many are held."""
        return sum(len(session.fixes) for session in self.sessions.values())

    def _places(self) -> list[dict[str, Any]]:
        return [receiver.place for receiver in self._receivers.values()]

    def _changed(self) -> int:
        self._changes += 1
        return self._changes

    def _count(self, now_s: float) -> None:
        second = int(now_s)
        if self._per_second and self._per_second[-1][0] == second:
            self._per_second[-1] = (second, self._per_second[-1][1] + 1)
        else:
            self._per_second.append((second, 1))

    def _see_model(self, model: ModelReference, now_s: float) -> None:
        key = (model.name, model.version, model.alias)
        seen = self.models.setdefault(key, ModelSeen(model))
        seen.results, seen.seen_s = seen.results + 1, now_s
        _refresh(self.models, key, self.limits.models)

    def _see_receiver(self, identity: str, place: dict[str, Any], now_s: float) -> None:
        known = self._receivers.get(identity)
        if known is None or known.place != place:
            self._receivers[identity] = _Receiver(place, now_s)
            self._receivers_changed = self._changed()
        else:
            known.seen_s = now_s
        _refresh(self._receivers, identity, self.limits.receivers)

    def _see_fix(self, fix: Drawn, name: str | None, now_s: float) -> None:
        session = self.sessions.get(name)
        if session is None:
            session = self.sessions[name] = Session(name, self._begun % COLOURS)
            self._begun += 1
        session.seen_s = now_s
        _refresh(self.sessions, name, self.limits.sessions)
        if fix.key in session.keys:
            return
        number = self._changed()
        session.total += 1
        session.keys.add(fix.key)
        session.fixes.append(KeptFix(number, fix.key, fix.text(number)))
        if len(session.fixes) > self.limits.fixes_per_session:
            session.keys.discard(session.fixes.popleft().key)


def _newer(fixes: deque[KeptFix], seen: int) -> Iterator[KeptFix]:
    """Those that came after a change; looked for from the end, where they are."""
    return takewhile(lambda fix: fix.number > seen, reversed(fixes))


def _refresh(table: OrderedDict[Any, Any], key: object, most: int) -> None:
    """Put an entry last, and let go of the one that was not heard of for longest where there are too many."""
    table.move_to_end(key)
    if len(table) > most:
        table.popitem(last=False)


def _forget(table: OrderedDict[Any, Any], before_s: float) -> int:
    """Let go of the entries that were seen last before an instant; they come first. How many these were."""
    gone = 0
    while table and next(iter(table.values())).seen_s < before_s:
        table.popitem(last=False)
        gone += 1
    return gone
