from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from worker.amqp.ledger import AckLedger


class Channel(RuleBasedStateMachine):
    """A channel as the broker sees it: it checks every acknowledgement against the tags that are open."""

    def __init__(self):
        super().__init__()
        self.ledger = AckLedger()
        self.open = []
        self.settled = []
        self.last = 0

    @rule(gap=st.integers(1, 3))
    def deliver(self, gap):
        """The broker delivers; tags only grow."""
        self.last += gap
        self.ledger.deliver(self.last)
        self.open.append(self.last)

    @rule(data=st.data())
    def finish(self, data):
        """Any tags are finished, open or not, in any order."""
        tags = data.draw(st.sets(st.integers(1, max(self.last, 1))))
        expected = {tag for tag in self.open if tag in tags}
        covered = []
        for tag, multiple in self.ledger.finish(set(tags)):
            assert tag in self.open, "the broker closes a channel that acknowledges an unknown tag"
            settled = [t for t in self.open if t <= tag] if multiple else [tag]
            self.open = [t for t in self.open if t not in settled]
            covered += settled
        assert sorted(covered) == sorted(expected), "a tag was left open, or one that was not finished was settled"
        self.settled += covered

    @precondition(lambda self: self.last)
    @rule(data=st.data())
    def drop(self, data):
        """One tag is settled in another way."""
        tag = data.draw(st.integers(1, self.last))
        was_open = tag in self.open
        assert self.ledger.drop(tag) is was_open
        if was_open:
            self.open.remove(tag)
            self.settled.append(tag)

    @invariant()
    def every_tag_is_settled_once(self):
        """Nothing is settled twice, and the ledger knows how many are open."""
        assert len(set(self.settled)) == len(self.settled)
        assert len(self.ledger) == len(self.open)
        assert [tag for tag in range(1, self.last + 1) if tag in self.ledger] == self.open


TestChannel = Channel.TestCase


def test_a_whole_batch_is_one_acknowledgement():
    """Tags without a gap below them cost one frame."""
    ledger = AckLedger()
    for tag in range(1, 9):
        ledger.deliver(tag)
    assert ledger.finish(set(range(1, 9))) == [(8, True)]
    assert ledger.finish({8}) == []


def test_an_open_tag_is_not_covered():
    """What lies above an open tag is acknowledged one by one."""
    ledger = AckLedger()
    for tag in range(1, 7):
        ledger.deliver(tag)
    assert ledger.finish({1, 2, 4, 6}) == [(2, True), (4, False), (6, False)]
    assert ledger.finish({3}) == [(3, True)]
    assert ledger.finish({5}) == [(5, True)]
    assert len(ledger) == 0
