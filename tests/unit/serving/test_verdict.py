from hypothesis import given
from hypothesis import strategies as st

from worker.serving.verdict import (
    FAULTY_BATCHES,
    FAULTY_ITEMS,
    TRIAL_FAILURES,
    TRIAL_WINDOW,
    CanaryTrial,
    ProductionWatch,
)

SIZES = st.lists(st.integers(0, 300), max_size=60)


@given(SIZES)
def test_a_canary_without_failures_never_fails(sizes):
    """However many items it has, and however they are batched."""
    trial = CanaryTrial()
    assert all(trial.observe(size, 0) is None for size in sizes)


@given(st.lists(st.integers(1, 40), min_size=TRIAL_FAILURES, max_size=20), st.lists(st.integers(1, 300), max_size=20))
def test_a_canary_that_always_fails_is_found_at_once(sizes, good):
    """From its fifth failed item on, whatever went well before."""
    trial = CanaryTrial()
    for size in good:
        trial.observe(size, 0)
    failed = 0
    for size in sizes:
        reason = trial.observe(size, size)
        failed += size
        assert (reason is not None) == (failed >= TRIAL_FAILURES)


@given(st.integers(TRIAL_FAILURES, 1000), st.integers(0, 1000))
def test_failures_of_one_large_batch_are_seen(failed, good):
    """Also where the batch is larger than the window."""
    assert CanaryTrial().observe(failed + good, failed) is not None


def test_old_failures_are_forgotten():
    """Four failures, a full window without, and four again: no verdict; the fifth within the window is one."""
    trial = CanaryTrial()
    few = TRIAL_FAILURES - 1
    assert trial.observe(few, few) is None
    assert trial.observe(TRIAL_WINDOW, 0) is None
    assert trial.observe(few, few) is None
    assert trial.observe(TRIAL_WINDOW - few - 1, 0) is None
    assert trial.observe(1, 1) == f"{TRIAL_FAILURES} of its last {TRIAL_WINDOW} items failed where production did not"


def test_production_is_at_fault_after_bad_batches_in_a_row():
    """Three of them with eight failed items; fewer of either is no verdict."""
    watch = ProductionWatch()
    assert [watch.observe(4, 3) for _ in range(FAULTY_BATCHES - 1)] == [None] * (FAULTY_BATCHES - 1)
    assert watch.observe(4, 3) == "most items of 3 batches in a row failed (9 items)"


def test_few_failed_items_are_no_verdict():
    """Batches of one item each: as many as eight are waited for."""
    watch = ProductionWatch()
    assert [watch.observe(1, 1) is not None for _ in range(FAULTY_ITEMS)] == [False] * (FAULTY_ITEMS - 1) + [True]


def test_one_large_bad_batch_is_no_verdict():
    """A publisher's thousand bad recordings may fill a batch."""
    assert ProductionWatch().observe(1000, 1000) is None


def test_one_good_batch_begins_anew():
    """Half of its items located is good; an empty batch says nothing."""
    watch = ProductionWatch()
    for _ in range(FAULTY_BATCHES - 1):
        watch.observe(100, 100)
    assert watch.observe(0, 0) is None
    assert watch.observe(10, 5) is None
    assert [watch.observe(100, 100) is not None for _ in range(FAULTY_BATCHES)] == [False, False, True]


@given(st.lists(st.integers(0, 50).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n // 2))), max_size=100))
def test_production_that_locates_half_is_never_at_fault(batches):
    """Bad inputs among good ones blame nobody."""
    watch = ProductionWatch()
    assert all(watch.observe(items, failed) is None for items, failed in batches)
