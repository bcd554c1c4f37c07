"""The world of one scenario: servers, workers, load, and at the end the evidence."""

import os
import random
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import redis

from bench.chaos import broker_side, gathering, injection, journal
from bench.chaos.jobs import Bodies
from bench.chaos.oracle import Answer, Evidence, Verdict, judge, recovery_s
from bench.chaos.site import Site
from bench.chaos.workers import Fleet, Worker, wait_for
from deploy.local.process import OwnedProcess

PREFETCH: Final = 128
GRACE_S: Final = 30.0
_STUCK_S: Final = 30.0
"""Without any news for so long, what has no outcome will not get one."""
_STUCK_BROKEN_S: Final = 5.0
_SHOWN: Final = 160
_UNDER_WAY_S: Final = 3.0

Environ = Mapping[str, str]


@dataclass(frozen=True)
class Scale:
    """How much a run does.

    Attributes:
        jobs: at least, per scenario.
        rate: jobs per second.
        quick: the short form.
        soak_minutes: of the last scenario.
    """

    jobs: int = 5000
    rate: float = 500.0
    quick: bool = False
    soak_minutes: float = 10.0

    def pick(self, quick: Any, full: Any) -> Any:
        """The one for this form."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Check:
    """A bound of a scenario's own."""

    what: str
    measured: str
    bound: str
    holds: bool


@dataclass
class World:
    """What a scenario works with.

    Attributes:
        amqp_url, redis_url: the servers themselves.
        expected: jobs that must end with an error, and its code.
        apart: jobs that the scenario accounts for itself.
        checks: of the scenario's own bounds.
    """

    site: Site
    scale: Scale
    directory: Path
    exits: ExitStack
    amqp_url: str
    redis_url: str
    broken: str = ""
    expected: dict[str, str] = field(default_factory=dict)
    apart: set[str] = field(default_factory=set)
    checks: list[Check] = field(default_factory=list)
    disturbances: list[tuple[float, float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    fleets: list[Fleet] = field(default_factory=list)
    journals: list[Path] = field(default_factory=list)
    rng: random.Random = field(default_factory=lambda: random.Random(20))  # noqa: S311 - a fault plan, no secret
    verdict: Verdict | None = None
    recovery_s: float | None = None
    dead: list[tuple[str, str | None]] = field(default_factory=list)

    @property
    def items(self) -> Path:
        """Where workers note what they infer."""
        return self.directory / "items"

    @property
    def tracking_uri(self) -> str:
        """The scenario's own registry."""
        return f"sqlite:///{self.directory}/mlflow.db"

    def inferred(self) -> int:
        """Items of jobs inferred so far."""
        return sum(map(int, self.items.read_text().split())) if self.items.exists() else 0

    def fleet(
        self, count: int = 1, *, argv: Sequence[str] | None = None, wait: bool = True, env: Environ | None = None
    ) -> list[Worker]:
        """Start workers; they are supervised until the scenario is over."""
        self.directory.mkdir(parents=True, exist_ok=True)
        own = [
            {**self._environment(), **(env or {}), "HEIMDALL_INSTANCE": f"chaos-{len(self.fleets)}-{n}"}
            for n in range(count)
        ]
        fleet = Fleet(own, argv) if argv else Fleet(own)
        self.exits.callback(fleet.close)
        self.fleets.append(fleet)
        fleet.start(wait=wait)
        return fleet.workers

    def _environment(self) -> dict[str, str]:
        return {
            "HEIMDALL_AMQP_URL": self.amqp_url,
            "HEIMDALL_REDIS_URL": self.redis_url,
            "HEIMDALL_MLFLOW_TRACKING_URI": self.tracking_uri,
            "HEIMDALL_CONTROL_USERS": "guest",
            "HEIMDALL_CACHE_ENABLED": "false",  # A cached row would hide a second inference.
            "HEIMDALL_GRACE_S": f"{GRACE_S:g}",
            injection.ITEMS: str(self.items),
            injection.BROKEN: self.broken,
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }

    @contextmanager
    def load(
        self, *, url: str = "", rate: float = 0.0, jobs: int = 0, until_answered: bool = True, **options: object
    ) -> Iterator[OwnedProcess]:
        """Publish while the block runs, and then until enough jobs are confirmed; then wait for all outcomes."""
        name = f"load{len(self.journals)}"
        directory = self.directory / name
        asked = {"url": url or self.amqp_url, "directory": directory, "bodies": self.site.bodies, "prefix": name}
        asked |= {"rate": rate or self.scale.rate, **options}
        words = [word for key, value in asked.items() for word in (f"--{key.replace('_', '-')}", str(value))]
        argv = [sys.executable, "-m", "bench.chaos.load", *words]
        process = OwnedProcess(name, argv, os.environ, self.directory / f"{name}.log")
        self.journals.append(directory)
        process.start()
        self.exits.callback(process.stop)
        yield process
        confirmed = gathering.until_confirmed(process, directory, jobs or self.scale.jobs)
        if not confirmed:
            self.check("every publish is confirmed in the end", False, "no", "yes")
        if until_answered:
            gathering.until_answered(self.journals, self._has_end, _STUCK_BROKEN_S if self.broken else _STUCK_S)

    def replies(self) -> dict[str, list[Answer]]:
        """Replies so far."""
        return journal.read(*self.journals).replies

    def calm(self, seconds: float) -> None:
        """Let it run undisturbed."""
        time.sleep(seconds)

    def silence(self, seconds: float) -> None:
        """Hold that nothing is answered for so long, but for what was under way: else nothing was broken."""
        time.sleep(_UNDER_WAY_S)
        before = len(journal.answered(*self.journals))
        time.sleep(max(0.0, seconds - _UNDER_WAY_S))
        more = len(journal.answered(*self.journals)) - before
        self.check("answers meanwhile", more == 0, more, 0)

    def jittered(self, mean_s: float) -> None:
        """Wait for a random time."""
        time.sleep(self.rng.uniform(0.4, 1.6) * mean_s)

    def answers(self, more: int, timeout: float = 60.0) -> None:
        """Wait for some more answers."""
        goal = len(journal.answered(*self.journals)) + more
        found = wait_for(lambda: len(journal.answered(*self.journals)) >= goal, timeout, 0.2)
        if found is None:
            self.check("jobs are answered again", False, "no", f"{more} within {timeout:g} s")

    @contextmanager
    def disturbance(self) -> Iterator[None]:
        """Note when something was broken, and when it was no more."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.disturbances.append((began, time.monotonic()))

    def check(self, what: str, holds: bool, measured: object, bound: object) -> None:  # noqa: FBT001 - a fact
        """Hold something against its bound."""
        text = f"{measured:.3g}" if isinstance(measured, float) else str(measured)
        self.checks.append(Check(what, text[:_SHOWN], str(bound), bool(holds)))

    def within(self, what: str, condition: Any, limit_s: float, patience_s: float = 60.0) -> None:
        """Hold the time until something is so against its limit."""
        took = wait_for(condition, max(limit_s, patience_s))
        shown = "never" if took is None else f"{took:.1f} s"
        self.check(what, took is not None and took <= limit_s, shown, f"≤ {limit_s:g} s")

    def stored(self, jobs: Iterable[str]) -> dict[str, Answer]:
        """Outcomes in Redis."""
        return gathering.stored(self.redis_url, Bodies.read(self.site.bodies), jobs)

    def _has_end(self, jobs: set[str]) -> set[str]:
        return self.stored(jobs).keys() | self.apart

    def settle(self) -> Verdict:
        """Drain the workers, count what is left, and judge."""
        codes = [code for fleet in self.fleets for code in fleet.drain(GRACE_S + 5.0)]
        self.check("workers drain and exit with 0", codes == [0] * len(codes), codes, "all 0")
        time.sleep(0.5)  # The recorder takes the last replies.
        record = journal.read(*self.journals)
        self.dead = broker_side.dead_letters(self.amqp_url)
        evidence = Evidence(
            confirmed=frozenset(record.confirmed),
            published=frozenset(record.published),
            stored=self.stored(record.published),
            replies=record.replies,
            events=record.events,
            dead=self.dead,
            inferred=self.inferred(),
            left=broker_side.ready(self.amqp_url, broker_side.JOBS),
            apart=frozenset(self.apart),
        )
        self.verdict = judge(evidence, self.expected)
        self.recovery_s = recovery_s(self.disturbances, record.answered_at)
        return self.verdict


@contextmanager
def world(site: Site, scale: Scale, name: str, broken: str = "") -> Iterator[World]:
    """A world on emptied servers; everything started in it is stopped at the end."""
    directory = site.directory / name
    directory.mkdir()
    shutil.copy(site.registry, directory / "mlflow.db")
    broker_side.delete_queues(site.broker.url)
    with redis.Redis.from_url(site.store.url) as client:
        client.flushall()
    with ExitStack() as exits:
        yield World(site, scale, directory, exits, site.broker.url, site.store.url, broken)
