import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.serving.policy import BatchPolicy

policies = st.builds(BatchPolicy, st.integers(1, 1024), st.floats(0, 10), st.booleans())
times = st.floats(0, 1e9)


@given(policies, st.integers(0, 2000), times, times, st.booleans())
def test_nothing_is_due_while_nothing_waits_or_the_stage_is_busy(policy, waiting, first, now, stage_free):
    """Only an arrival and a free stage make a batch due, and then always within max_wait."""
    due = policy.due_in(waiting=waiting, first_arrival=first, now=max(first, now), stage_free=stage_free)
    if not waiting or not stage_free:
        assert due is None
    else:
        assert due is not None
        # The clock's own resolution at such an hour is what the rounding may add.
        assert 0 <= due <= policy.max_wait + 1e-6


@given(policies, st.integers(1, 2000), times, st.floats(0, 100))
def test_a_full_batch_is_due_at_once(policy, waiting, first, later):
    """Waiting longer would not make a full batch better; an eager policy never waits."""
    due = policy.due_in(waiting=waiting, first_arrival=first, now=first + later, stage_free=True)
    if policy.eager or waiting >= policy.max_batch_size:
        assert due == 0


@given(st.floats(0.001, 10), times, st.floats(0, 20))
def test_a_waiting_batch_is_due_max_wait_after_its_first_arrival(max_wait, first, later):
    """The wait counts from the oldest arrival, and ends."""
    policy = BatchPolicy(8, max_wait, eager=False)
    due = policy.due_in(waiting=1, first_arrival=first, now=first + later, stage_free=True)
    assert due == pytest.approx(max(0.0, max_wait - later), abs=1e-6)
