"""The oracle of the fault suite, on evidence made by hand."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.chaos.oracle import COMPLETE, FAILED, Answer, Evidence, judge, recovery_s

RESULT, OTHER = Answer("aa"), Answer("bb")


def evidence(*jobs: str, **found: Any) -> Evidence:
    """Evidence in which these jobs are confirmed."""
    return Evidence(frozenset(jobs), frozenset(jobs) | found.pop("also_published", frozenset()), **found)


@pytest.mark.parametrize(
    "found",
    [{"stored": {"a": RESULT}}, {"replies": {"a": [RESULT]}}, {"apart": frozenset("a")}],
    ids=["in Redis", "answered", "apart"],
)
def test_one_trace_is_enough(found: Any) -> None:
    """A job with an outcome in Redis, a reply, or an account of its own is not lost."""
    assert judge(evidence("a", **found)).clean


def test_confirmed_without_a_trace_is_lost() -> None:
    """A confirmed job that left no trace is lost, and one that was never confirmed is not."""
    verdict = judge(evidence("a", "b", stored={"a": RESULT}, also_published=frozenset("c")))
    assert verdict.lost == ("b",)
    assert not verdict.clean


def test_an_error_that_nobody_called_for() -> None:
    """An error outcome is unexpected unless the scenario says that this job must end so."""
    found = evidence("a", stored={"a": Answer("aa", "internal")})
    assert judge(found).unexpected == ("a",)
    assert judge(found, {"a": "internal"}).clean
    assert judge(found, {"a": "expired"}).unexpected == ("a",)


def test_a_dead_letter_that_nobody_called_for() -> None:
    """A dead letter is no loss, but unexpected; so is one that the broker made, without a code."""
    assert judge(evidence("a", dead=[("a", "internal")])).lost == ()
    assert judge(evidence("a", dead=[("a", "internal")])).unexpected == ("a",)
    assert judge(evidence("a", stored={"a": RESULT}, dead=[("a", None)])).unexpected == ("a",)


def test_an_error_that_did_not_come() -> None:
    """A job that must fail and has a result, or nothing, is unexpected."""
    assert judge(evidence("a", stored={"a": RESULT}), {"a": "crashes_worker"}).unexpected == ("a",)
    assert judge(evidence("a"), {"a": "crashes_worker"}).unexpected == ("a",)


def test_an_answer_of_another_job() -> None:
    """An answer that does not fit its job, or is to none that was published, is unexpected."""
    assert judge(evidence("a", replies={"a": [Answer("aa", fits=False)]})).unexpected == ("a",)
    assert judge(evidence("a", stored={"a": RESULT}, replies={"z": [RESULT]})).unexpected == ("z",)


def test_events_say_the_same() -> None:
    """An event that calls a result failed, or an error complete, is unexpected."""
    assert judge(evidence("a", stored={"a": RESULT}, events={"a": frozenset({COMPLETE})})).clean
    assert judge(evidence("a", stored={"a": RESULT}, events={"a": frozenset({COMPLETE, FAILED})})).unexpected == ("a",)


def test_repeats_that_differ() -> None:
    """A second reply, or what is stored, with other bytes than the first reply differs; the same bytes do not."""
    same = judge(evidence("a", stored={"a": RESULT}, replies={"a": [RESULT, RESULT]}))
    assert same.clean
    assert same.repeated == 1
    assert judge(evidence("a", replies={"a": [RESULT, OTHER]})).differing == ("a",)
    assert judge(evidence("a", stored={"a": OTHER}, replies={"a": [RESULT]})).differing == ("a",)


def test_inferences_beyond_one_per_job() -> None:
    """Items of the model beyond one for each job with a result were inferred again."""
    assert judge(evidence("a", "b", stored={"a": RESULT, "b": RESULT}, inferred=5)).re_inferred == 3
    assert judge(evidence("a", stored={"a": Answer("aa", "expired")}, inferred=0), {"a": "expired"}).re_inferred == 0


def test_what_is_left_is_not_clean() -> None:
    """A message left in the queue breaks the promise even where nothing is lost."""
    assert not judge(evidence("a", stored={"a": RESULT}, left=1)).clean


@given(st.sets(st.text("abc", min_size=1, max_size=3)), st.data())
def test_lost_is_exact(jobs: set[str], data: st.DataObject) -> None:
    """Whatever is found where, exactly the confirmed jobs found nowhere are lost."""
    some = st.sets(st.sampled_from(sorted(jobs))) if jobs else st.just(set())
    stored, replied, dead, apart = (data.draw(some) for _ in range(4))
    found = evidence(
        *jobs,
        stored=dict.fromkeys(stored, RESULT),
        replies={job: [RESULT] for job in replied},
        dead=[(job, "internal") for job in dead],
        apart=frozenset(apart),
    )
    assert set(judge(found).lost) == jobs - stored - replied - dead - apart


def test_recovery_is_the_longest_wait() -> None:
    """Recovery is the longest time from an end of a disturbance to the next answer; none where no answer came."""
    answered = [1.0, 5.0, 9.0, 12.5]
    assert recovery_s([(2.0, 4.0), (6.0, 10.0)], answered) == 2.5
    assert recovery_s([(2.0, 13.0)], answered) is None
    assert recovery_s([], []) == 0.0
