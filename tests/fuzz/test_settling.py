import asyncio
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from structlog.testing import capture_logs

from schemas.problems import ERROR_TABLE, Disposition, ErrorCode
from tests.fuzz.memory import PREFETCH, MemoryBroker, MemoryStore
from tests.support.graphs import Shape, load, tone
from tests.unit.amqp.messages import sigmf_message
from worker.amqp.flow import Flow
from worker.locating import Locator
from worker.pipeline import Pipeline
from worker.serving.batcher import MicroBatcher
from worker.serving.model import Models
from worker.serving.policy import BatchPolicy
from worker.serving.rollout import Rollout
from worker.settling import Settler
from worker.shadow import Shadow
from worker.telemetry.metrics import Metrics
from worker.telemetry.performance import Performance
from worker.trial import Trial

MAX_BATCH = 4
IN_FLIGHT = 3
QUIET_S = 60.0
QUIET, LOUD = tone(0), tone(0, amplitude=1000.0)
KINDS = {
    "sound": {"body": QUIET},
    "poison": {"body": LOUD},
    "cut": {"body": QUIET[:-3]},
    "expired": {"body": QUIET, "headers": {"deadline_ms": 1}},
    "bug": {"body": QUIET},
    "gone": {"body": QUIET, "reply_to": "amq.gen-gone"},
    "refused": {"body": QUIET, "reply_to": "heimdall.dead"},
    "nameless": {"body": QUIET, "message_id": "no name"},
}
_versions = {}


@pytest.fixture(autouse=True)
def quiet():
    """The tracebacks of bugs that are made on purpose are not worth their formatting."""
    with capture_logs():
        yield


def versions():
    """A version that fails on loud recordings, and one that does not; loaded once."""
    if not _versions:
        for number, shape in (("7", Shape(fails_above=0.0)), ("8", Shape())):
            with tempfile.TemporaryDirectory() as directory:
                _versions[number] = load(Path(directory), shape, version=number)
    return _versions["7"], _versions["8"]


class Settling(RuleBasedStateMachine):
    """The batcher, the ledger and the whole pipeline, between a broker and a store in memory."""

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.sent = {}
        self.loop.run_until_complete(self._build())

    async def _build(self):
        self.fragile, self.sturdy = versions()
        self.broker, self.store, self.flow, metrics = MemoryBroker(), MemoryStore(), Flow(), Metrics()
        self.crashes = []
        self.trial = Trial(self._replace, metrics)
        self.models = Models(self.trial.forget)
        self.models.replace(Rollout(self.fragile))
        self.locator = Locator(None, metrics, MAX_BATCH)
        self.shadow = Shadow(metrics, MAX_BATCH, lambda: True)
        settler = Settler(self.store, metrics, Performance(), instance="w-1", events_enabled=True)
        pipeline = Pipeline(
            self.models,
            self.store,
            self.locator,
            settler,
            self.trial,
            self.shadow,
            metrics,
            max_batch_size=MAX_BATCH,
            stale_after_s=10.0,
        )
        self.batcher = MicroBatcher(
            BatchPolicy(MAX_BATCH, 0.002, eager=True),
            pipeline.run,
            is_suspect=lambda delivery: delivery.suspect,
            max_in_flight=IN_FLIGHT,
            on_crash=self.crashes.append,
        )
        self.running = self.loop.create_task(self.batcher.run())

    async def _replace(self, version, reason):
        """What the swapper does with a version at fault."""
        if version is self.models.current.primary:
            self.models.replace(Rollout(self.sturdy))

    def _let(self, seconds):
        self.loop.run_until_complete(asyncio.sleep(seconds))

    @initialize(kinds=st.lists(st.sampled_from(sorted(KINDS)), max_size=10))
    def arrive(self, kinds):
        """Jobs wait before anything else happens."""
        for kind in kinds:
            self.publish(kind)

    def publish(self, kind):
        """A job of some kind, under an id of its own."""
        number = len(self.sent)
        self._send(kind, **({"message_id": f"{kind}-{number}"} | KINDS[kind]))

    @rule(which=st.integers(0, 100), same=st.booleans())
    def publish_again(self, which, same):
        """An id that was used before, with the same body or another."""
        if self.sent:
            before = list(self.sent.values())[which % len(self.sent)]
            body = before.body if same else tone(which + 1)
            self._send("again", message_id=before.message_id, body=body, headers=dict(before.headers))

    def _send(self, kind, **message):
        correlation_id = f"{kind}-{len(self.sent)}"
        defaults = {"reply_to": "amq.gen-x", "correlation_id": correlation_id, "user_id": "alice"}
        made = sigmf_message(1, **(defaults | message))
        self.sent[correlation_id] = made
        self.broker.publish(made)

    @rule(kinds=st.lists(st.sampled_from(sorted(KINDS)), max_size=6), milliseconds=st.sampled_from([0, 0, 1, 5]))
    def deliver(self, kinds, milliseconds):
        """More jobs, and the broker sends what it may, where the flow is open."""
        for kind in kinds:
            self.publish(kind)
        if self.flow.open:
            for delivery in self.broker.deliver():
                self.batcher.put(delivery)
        self._let(milliseconds / 1000)

    @rule(milliseconds=st.sampled_from([0, 1, 20]))
    def work(self, milliseconds):
        """Time passes."""
        self._let(milliseconds / 1000)

    @rule()
    def lose_the_session(self):
        """A connection is lost in the middle of whatever is under way."""
        self.broker.session.lose("cut")

    @rule()
    def lose_a_confirm(self):
        """The next publish is not confirmed."""
        self.broker.confirms_fail = True

    @rule()
    def refuse_a_dead_letter(self):
        """The dead-letter queue is full for once."""
        self.broker.dead_refuses = True

    @rule(calls=st.integers(1, 3))
    def store_away(self, calls):
        """The store gives up on some calls."""
        self.store.away = calls

    @rule()
    def swap(self):
        """The fragile version serves again."""
        self.models.replace(Rollout(self.fragile))

    @rule(milliseconds=st.sampled_from([0, 5]))
    def pause_and_resume(self, milliseconds):
        """No more jobs are taken for a time."""
        self.flow.stop("paused")
        self.deliver([], milliseconds)
        self.flow.clear("paused")

    @rule()
    def drain(self):
        """Take nothing, and wait until nothing is held."""
        self.flow.stop("paused")
        self.loop.run_until_complete(asyncio.wait_for(self.batcher.drain(), QUIET_S))
        assert not self.broker.session.unacked
        assert len(self.broker.session.ledger) == 0
        self.flow.clear("paused")

    @rule()
    def withdraw(self):
        """Give back what waits, as at the end of the grace period."""
        for delivery in self.batcher.withdraw():
            delivery.session.release([delivery.message])

    @invariant()
    def nothing_is_settled_twice(self):
        """No tag of any session, and no job."""
        assert self.broker.unknown_tags == []
        assert max(self.broker.settled.values(), default=1) == 1
        assert max(self.broker.acked.values(), default=1) == 1

    @invariant()
    def the_ledger_and_the_broker_agree(self):
        """What the worker holds open is what the broker waits for, and not more than it may."""
        session = self.broker.session
        assert {tag for tag in range(1, session.tags + 1) if tag in session.ledger} == set(session.unacked)
        assert len(session.unacked) <= PREFETCH

    @invariant()
    def nothing_is_acknowledged_unanswered(self):
        """An acknowledged job whose requester is there has its reply."""
        for correlation_id in self.broker.acked:
            assert self.sent[correlation_id].reply_to != "amq.gen-x" or self.broker.replies.get(correlation_id)

    def teardown(self):
        """All becomes well: then every tag is settled or was lost, and every job has its end."""
        try:
            self.loop.run_until_complete(asyncio.wait_for(self._until_quiet(), QUIET_S))
            self._check_end()
        finally:
            self.loop.run_until_complete(self._close())
            self.loop.close()

    async def _until_quiet(self):
        self.store.away, self.broker.confirms_fail, self.broker.dead_refuses = 0, False, False
        while self.broker.queue or self.broker.session.unacked or not self.batcher.idle:
            for delivery in self.broker.deliver():
                self.batcher.put(delivery)
            await asyncio.sleep(0.001)

    def _check_end(self):
        self.nothing_is_settled_twice()
        self.nothing_is_acknowledged_unanswered()
        assert self.crashes == []
        for session, tag in self.broker.delivered:
            assert self.broker.settled[session.number, tag] == 1 or session.lost.is_set(), (session.number, tag)
        assert set(self.broker.acked) == set(self.sent)
        self._check_failed()
        named = {message.message_id for message in self.sent.values()} - {"no name"}
        assert set(self.store.outcomes) == named

    def _check_failed(self):
        """Each failure that leaves a letter has left one: under its job's id, and a conflict under its own."""
        lettered = {self.sent[correlation_id].message_id for correlation_id in self.broker.dead}
        for correlation_id, bodies in self.broker.replies.items():
            code = json.loads(bodies[-1]).get("code")
            if code == ErrorCode.JOB_ID_CONFLICT:
                assert self.broker.dead[correlation_id]
            elif code and ERROR_TABLE[ErrorCode(code)].disposition is Disposition.DEAD:
                assert self.sent[correlation_id].message_id in lettered

    async def _close(self):
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)
        await self.trial.close()
        await self.shadow.close()
        self.locator.close()


TestSettling = Settling.TestCase
TestSettling.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
TestSettling.__doc__ = "Every tag is settled exactly once, or left to a session that was lost, whatever comes when."
