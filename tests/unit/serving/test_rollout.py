import os
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from worker.serving.rollout import Rollout, share_of


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
