import time

import pytest

from worker.telemetry.health import LOOP_TIMEOUT_S, Probes


def probes(*, beat_s=0.0, progress_s=0.0, busy=False, obstacles=(), started=True):
    """Probes of a worker whose last beat and progress were so many seconds ago."""
    now = time.monotonic()
    return Probes(
        loop_beat_at=lambda: now - beat_s,
        progress_at=lambda: now - progress_s,
        busy=lambda: busy,
        obstacles=lambda: list(obstacles),
        started=lambda: started,
        live_timeout_s=60.0,
    )


def test_a_worker_that_beats_lives():
    """Idle for an hour is alive; so is busy with progress."""
    assert probes(progress_s=3600).live() == []
    assert probes(progress_s=59, busy=True).live() == []


def test_a_loop_that_does_not_beat_is_dead():
    """Something blocks the event loop: only a restart helps."""
    assert probes(beat_s=LOOP_TIMEOUT_S - 1).live() == []
    assert "has not beaten for 16 s" in probes(beat_s=LOOP_TIMEOUT_S + 1).live()[0]


def test_held_jobs_without_progress_are_death():
    """Work that could go on and does not."""
    assert "no progress for 61 s" in probes(progress_s=61, busy=True).live()[0]
    assert len(probes(beat_s=100, progress_s=100, busy=True).live()) == 2


def test_a_dependency_that_is_away_is_no_death():
    """A restart would not bring it back: not ready, but alive."""
    away = probes(obstacles=["Redis does not take writes"])
    assert away.live() == []
    assert away.ready() == ["Redis does not take writes"]


@pytest.mark.parametrize(
    ("started", "obstacles", "expected"),
    [(True, ["draining"], []), (False, ["no valid model"], ["starting", "no valid model"]), (False, [], ["starting"])],
)
def test_the_start_is_over_once_it_was_ready(started, obstacles, expected):
    """Later obstacles do not begin it anew; before, they are listed."""
    assert probes(started=started, obstacles=obstacles).startup() == expected
