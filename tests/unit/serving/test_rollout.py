import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.graphs import record
from worker.errors import ModelRejected
from worker.serving.rollout import RegistryView, Rollout, plan_rollout, share_of


@given(st.text(max_size=200))
def test_a_key_always_has_the_same_place(key):
    """Places lie on a scale of 0 to 100, and only the key decides."""
    assert 0 <= share_of(key) < 100
    assert share_of(key) == share_of(str(key.encode(), "utf-8"))


def test_the_weight_is_the_share_of_sessions():
    """A canary of 10 % gets 10 % of ten thousand sessions, give or take one."""
    rollout = Rollout("production", canary="canary", canary_weight=10.0)
    chosen = [rollout.choose(f"session-{i}") for i in range(10_000)]
    assert 900 <= chosen.count("canary") <= 1100


@given(st.text(max_size=50), st.floats(0, 100), st.floats(0, 100))
def test_raising_the_weight_moves_sessions_only_one_way(key, one, other):
    """A session that has the canary keeps it while the weight grows."""
    low, high = sorted((one, other))
    if Rollout("p", canary="c", canary_weight=low).choose(key) == "c":
        assert Rollout("p", canary="c", canary_weight=high).choose(key) == "c"


@given(st.text(max_size=50))
def test_the_ends_of_the_scale_are_none_and_all(key):
    """0 % is nobody, 100 % everybody, and without a canary production serves."""
    assert Rollout("p", canary="c", canary_weight=0.0).choose(key) == "p"
    assert Rollout("p", canary="c", canary_weight=100.0).choose(key) == "c"
    assert Rollout("p", canary_weight=100.0).choose(key) == "p"


def test_every_process_chooses_alike():
    """The choice does not hang on Python's seed of hashes, or on anything else of a process."""
    program = (
        "from worker.serving.rollout import Rollout\n"
        "rollout = Rollout('p', canary='c', canary_weight=50.0)\n"
        "print(''.join(rollout.choose(f'session-{i}') for i in range(200)))"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    here = Rollout("p", canary="c", canary_weight=50.0)
    assert answers == {"".join(here.choose(f"session-{i}") for i in range(200))}


def test_versions_are_listed_production_first():
    """Parts that nobody plays are left out."""
    assert Rollout("p").versions == ("p",)
    assert Rollout("p", shadow="s", canary="c").versions == ("p", "c", "s")


def made(version, *, alias="production", **tags):
    """A version with tags, named without their prefix."""
    return record("sha256:0", version=version, alias=alias, tags={f"heimdall.{name}": v for name, v in tags.items()})


def view(*records, **aliases):
    """A registry that holds these records."""
    return RegistryView(aliases, {r.version: r for r in records})


def versions(plan):
    """Version per part."""
    return tuple(r.version if r else None for r in (plan.primary, plan.canary, plan.shadow))


def test_aliases_name_the_parts():
    """Each part has its version, and the canary its weight."""
    plan = plan_rollout(
        view(made("1"), made("2", canary_weight="7.5"), made("3"), production="1", canary="2", shadow="3")
    )
    assert versions(plan) == ("1", "2", "3")
    assert [r.alias for r in plan.versions] == ["production", "canary", "shadow"]
    assert plan.canary_weight == 7.5


@pytest.mark.parametrize("aliases", [{}, {"canary": "1"}, {"production": "9"}])
def test_without_production_nothing_serves(aliases):
    """No alias, or one that leads nowhere: the refusal says what to do."""
    with pytest.raises(ModelRejected, match="names no version for production"):
        plan_rollout(view(made("1"), **aliases))


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        ((), "has failed"),
        ((made("1", failed="too"),), "no version before it"),
        ((made("0"),), "NaN everywhere"),
    ],
)
def test_failed_production_without_a_version_before_it(before, reason):
    """None named, none there, or one that failed itself: nothing may serve, and the reason is told."""
    with pytest.raises(ModelRejected, match=reason):
        plan_rollout(view(made("2", failed="NaN everywhere", previous="1"), *before, production="2"))
    with pytest.raises(ModelRejected):
        plan_rollout(view(made("2", failed="NaN everywhere"), production="2"))


@pytest.mark.parametrize("alias", ["production", "canary", "shadow"])
def test_the_version_before_serves_as_production(alias):
    """Whatever part its record was read for, it answers as production, and plays no other part."""
    plan = plan_rollout(
        view(
            made("2", failed="x", previous="1"), made("1", alias=alias, canary_weight="50"), production="2", canary="1"
        )
    )
    assert versions(plan) == ("1", None, None)
    assert plan.primary.alias == "production"


def test_production_keeps_its_place_beside_its_predecessor():
    """The tag of the version before it means nothing while production has not failed."""
    assert versions(plan_rollout(view(made("2", previous="1"), made("1"), production="2"))) == ("2", None, None)


@pytest.mark.parametrize("part", ["canary", "shadow"])
@pytest.mark.parametrize(
    "other", [made("1", canary_weight="10"), made("2", canary_weight="10", failed="x"), made("9", canary_weight="10")]
)
def test_parts_that_are_no_trial_are_not_played(part, other):
    """Equal to production, failed, or not there: production serves alone."""
    named = {part: "2" if other.version == "9" else other.version}
    assert versions(plan_rollout(view(made("1"), other, production="1", **named))) == ("1", None, None)


@pytest.mark.parametrize(
    ("tags", "weight"),
    [
        ({}, None),
        ({"canary_weight": "0"}, None),
        ({"canary_weight": "-1"}, None),
        ({"canary_weight": "100.1"}, None),
        ({"canary_weight": "nan"}, None),
        ({"canary_weight": "inf"}, None),
        ({"canary_weight": "ten"}, None),
        ({"canary_weight": ""}, None),
        ({"canary_weight": "0.01"}, 0.01),
        ({"canary_weight": " 10 "}, 10.0),
        ({"canary_weight": "100"}, 100.0),
    ],
)
def test_the_weight_is_a_number_of_percent(tags, weight):
    """Whatever else stands there gives the canary nothing, and no canary is loaded for nothing."""
    plan = plan_rollout(view(made("1"), made("2", **tags), production="1", canary="2"))
    assert (plan.canary is not None, plan.canary_weight) == (weight is not None, weight or 0.0)


def test_one_version_may_be_tried_and_compared():
    """Canary and shadow at once: each record says its own part."""
    plan = plan_rollout(view(made("1"), made("2", canary_weight="10"), production="1", canary="2", shadow="2"))
    assert [r.alias for r in plan.versions] == ["production", "canary", "shadow"]
