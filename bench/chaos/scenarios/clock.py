"""A wall clock that jumps."""

import json
import time
from datetime import datetime
from typing import Final

import redis

from bench.chaos import injection, journal
from bench.chaos.scenarios.broker_faults import check_no_dead_task
from bench.chaos.world import World
from schemas.result import RESULT_KEY_PREFIX

JUMPS_S: Final = (3600, -3600, 86_400, 0)
_NOTICED_S: Final = 1.0
_EXACT_S: Final = 60.0


def clock_jumps(world: World) -> None:
    """16: the worker's wall clock jumps forward, back, and by a day."""
    offset = world.directory / "offset"
    (worker,) = world.fleet(1, env={injection.CLOCK: str(offset)})
    with world.load():
        world.answers(50)
        for jump in JUMPS_S[:2] if world.scale.quick else JUMPS_S:
            with world.disturbance():
                offset.write_text(str(jump))
                world.calm(_NOTICED_S)
            world.calm(world.scale.pick(2.0, 8.0))
            world.answers(20)
            seen = _ahead_s(world)
            world.check(
                f"stated time, the clock set by {jump:+d} s", abs(seen - jump) < _EXACT_S, f"{seen:+.0f} s", jump
            )
            world.check("it lives", worker.page("/health/live")[0] == 200, "", "200")
    world.settle()
    check_no_dead_task(world, worker)


def _ahead_s(world: World) -> float:
    """How far ahead of ours the clock is by which the latest outcome was stamped."""
    stored = journal.confirmed(*world.journals)
    with redis.Redis.from_url(world.redis_url) as client:
        for job in reversed(stored):
            body = client.get(RESULT_KEY_PREFIX + job)
            if body is not None:
                stamp = str(json.loads(str(body, "utf-8"))["timestamp"])
                return datetime.fromisoformat(stamp[:19] + "+00:00").timestamp() - time.time()
    return float("nan")
