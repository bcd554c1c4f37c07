import asyncio

import pytest

from worker.serving.model import Models
from worker.serving.rollout import Rollout


class Version:
    """A version that is only looked at."""

    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return self.name


@pytest.fixture
def retired():
    """Versions told as retired."""
    return []


@pytest.fixture
def models(retired):
    """A holder."""
    return Models(retired.append)


A, B, C = Version("a"), Version("b"), Version("c")


def test_at_first_nothing_serves(models):
    """Before a version is valid there is no roll-out, and no lease."""
    assert models.current is None
    with pytest.raises(AssertionError, match="without a model"), models.lease():
        pass


def test_an_unused_version_retires_when_it_is_replaced(models, retired):
    """Nobody holds it: it goes at once, once."""
    models.replace(Rollout(A))
    assert retired == []
    models.replace(Rollout(B))
    assert retired == [A]
    assert models.current == Rollout(B)


def test_a_leased_version_retires_when_its_last_lease_ends(models, retired):
    """A batch keeps its version, whatever is swapped meanwhile."""
    models.replace(Rollout(A))
    with models.lease() as outer:
        with models.lease():
            models.replace(Rollout(B))
            assert outer.primary is A
            assert retired == []
        assert retired == [], "another batch still uses it"
        with models.lease() as later:
            assert later.primary is B
    assert retired == [A]


def test_a_lease_ends_also_when_its_batch_fails(models, retired):
    """A failing batch holds nothing back."""
    models.replace(Rollout(A))

    def fail():
        with models.lease():
            models.replace(Rollout(B))
            raise ValueError("bug")

    with pytest.raises(ValueError, match="bug"):
        fail()
    assert retired == [A]


def test_a_version_that_comes_back_does_not_retire(models, retired):
    """Rolled back while leased: it serves again, so it stays."""
    models.replace(Rollout(A))
    with models.lease():
        models.replace(Rollout(B))
        models.replace(Rollout(A))
        assert retired == [B]
    assert retired == [B]


def test_versions_stay_while_any_part_is_theirs(models, retired):
    """A canary that becomes production, and a production that becomes canary, do not retire."""
    models.replace(Rollout(A, canary=B, canary_weight=10.0, shadow=C))
    with models.lease():
        models.replace(Rollout(B, canary=A, canary_weight=10.0))
        assert retired == []
    assert retired == [C]
    models.replace(Rollout(B))
    assert retired == [C, A]


@pytest.mark.parametrize(("version", "left"), [(B, (None, 0.0, C)), (C, (B, 10.0, None))])
def test_a_dropped_version_plays_no_part(models, retired, version, left):
    """Canary or shadow: it retires, production and the other go on."""
    models.replace(Rollout(A, B, 10.0, C))
    models.drop(version)
    assert (models.current.primary, *left) == (
        A,
        models.current.canary,
        models.current.canary_weight,
        models.current.shadow,
    )
    assert retired == [version]


def test_production_is_never_dropped(retired):
    """Nor is anything told as changed: jobs that wait for another version would be computed with the same."""
    told = []
    models = Models(retired.append, lambda: told.append(models.current))
    models.drop(A)
    models.replace(Rollout(A, B, 10.0))
    before = models.current
    models.drop(A)
    models.drop(C)
    assert models.current is before
    assert told == [before]
    assert retired == []


async def test_waiting_for_another_rollout_ends_when_it_serves(models):
    """Everybody who waits is woken, by any change; who waits for a former one does not wait."""
    first, second = Rollout(A), Rollout(B)
    models.replace(first)
    waiting = [asyncio.create_task(models.replaced(first)) for _ in range(3)]
    await asyncio.sleep(0.01)
    assert not any(task.done() for task in waiting)
    models.replace(second)
    async with asyncio.timeout(5):
        await asyncio.gather(*waiting, models.replaced(first))
    again = asyncio.create_task(models.replaced(second))
    await asyncio.sleep(0.01)
    assert not again.done()
    again.cancel()
