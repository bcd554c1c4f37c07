"""Workers that are killed, at random and at each point of a job's way; that are replaced; that freeze; that crash."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.chaos import injection
from bench.chaos.injection import Point
from bench.chaos.workers import Worker, stopped, wait_for
from bench.chaos.world import GRACE_S, PREFETCH, World

DEADLY_ABOVE_DB: Final = 20.0
SIGKILL: Final = -9
READY_S: Final = 60.0
MAX_SOLO_DEATHS: Final = 4
"""Twice in company, twice alone; the third start alone does not come to computing."""


def kills_at_random(world: World) -> None:
    """1: `kill -9` of workers."""
    kills = 1 if world.broken else world.scale.pick(2, 20)
    workers = world.fleet(world.scale.pick(1, 3))
    back = []
    with world.load():
        world.answers(50)
        for _ in range(kills):
            world.jittered(world.scale.pick(0.6, 2.0))
            victim = world.rng.choice(workers)
            with world.disturbance():
                victim.kill()
                back.append(wait_for(victim.ready, READY_S))
    _check_ready(world, back)
    verdict = world.settle()
    deaths = sum(len(worker.codes) for worker in workers)
    most = PREFETCH * kills
    world.check(
        "jobs inferred again", verdict.re_inferred <= most, verdict.re_inferred, f"≤ {most}, prefetch times kills"
    )
    world.check("deaths", deaths == kills, deaths, kills)


def _check_ready(world: World, back: Sequence[float | None]) -> None:
    """Hold how long each worker took to be ready again against the limit."""
    took = [seconds for seconds in back if seconds is not None]
    shown = f"{len(took)} of {len(back)}"
    world.check("workers that are ready again", len(took) == len(back), shown, f"each, in {READY_S:g} s")


ROWS: Final[dict[Point, tuple[int, int]]] = {
    Point.RECEIVED: (1, 1),
    Point.INFERRED: (2, 1),
    Point.STORED: (1, 1),
    Point.REPLIED: (1, 2),
    Point.CONFIRMED: (1, 2),
    Point.ACKNOWLEDGED: (1, 1),
}
"""How often a lone job is inferred and answered when the worker dies at a point: the promised row."""


def kills_at_each_point(world: World) -> None:
    """2: a kill at each point between receive, infer, store, reply, confirm and acknowledge."""
    points: Sequence[Point] = world.scale.pick((Point.INFERRED, Point.STORED, Point.CONFIRMED), tuple(Point))
    armed = world.directory / "armed"
    (worker,) = world.fleet(1, env={injection.ARMED: str(armed)})
    for point in points:
        _lone_job(world, worker, point, armed)
        if not world.scale.quick:
            _under_load(world, worker, point, armed, world.scale.jobs // len(points))
    verdict = world.settle()
    most = PREFETCH * len(worker.codes)
    world.check("jobs inferred again", verdict.re_inferred <= most, verdict.re_inferred, f"≤ {most}")


def _lone_job(world: World, worker: Worker, point: Point, armed: Path) -> None:
    """One job, a death at the point, a restart: what was computed and answered must be exactly the promised row."""
    before, deaths = world.inferred(), len(worker.codes)
    injection.arm(armed, point)
    with world.load(most=1, jobs=1):
        died = wait_for(lambda: len(worker.codes) > deaths, 30.0)
        armed.unlink(missing_ok=True)
        wait_for(worker.ready, READY_S)
    world.calm(0.5)
    answered = sum(len(replies) for job, replies in world.replies().items() if job.startswith(world.journals[-1].name))
    row = (world.inferred() - before, answered)
    right = died is not None and row == ROWS[point]
    shown = row if died is not None else "it did not die"
    world.check(f"dies when {point}: inferences, replies", right, shown, ROWS[point])


def _under_load(world: World, worker: Worker, point: Point, armed: Path, jobs: int) -> None:
    """The same in the midst of others."""
    with world.load(jobs=jobs):
        world.answers(20)
        deaths = len(worker.codes)
        with world.disturbance():
            injection.arm(armed, point)
            wait_for(lambda: len(worker.codes) > deaths, 30.0)
            wait_for(worker.ready, READY_S)
    world.check(f"dies when {point}, under load", len(worker.codes) == deaths + 1, len(worker.codes) - deaths, 1)


def rolling_replacement(world: World) -> None:
    """3: SIGTERM to one worker after the other."""
    workers = world.fleet(2)
    codes, back = [], []
    with world.load():
        world.answers(50)
        for turn in range(world.scale.pick(2, 10)):
            world.jittered(1.0)
            worker = workers[turn % 2]
            with world.disturbance():
                codes.append(worker.end(GRACE_S))
                worker.begin()
                back.append(wait_for(worker.ready, READY_S))
    _check_ready(world, back)
    verdict = world.settle()
    world.check("exit codes", set(codes) == {0}, codes, "all 0, in the grace period")
    world.check("jobs inferred again", verdict.re_inferred == 0, verdict.re_inferred, 0)
    world.check("replies beyond the first", verdict.repeated == 0, verdict.repeated, 0)


def frozen_worker(world: World) -> None:
    """4: SIGSTOP to one of two workers."""
    frozen, other = world.fleet(2)
    with world.load():
        world.answers(50)
        with world.disturbance(), stopped(frozen):
            world.calm(world.scale.pick(45.0, 90.0) - 15.0)
            before = other.metric("heimdall_jobs_total")
            world.calm(15.0)
            more = other.metric("heimdall_jobs_total") - before
            world.check("jobs settled by the other meanwhile", more > 0, more, "> 0")
        world.within("the frozen one takes jobs again", frozen.ready, 30.0)
    verdict = world.settle()
    world.check("jobs inferred again", verdict.re_inferred <= PREFETCH, verdict.re_inferred, f"≤ {PREFETCH}")


def deadly_job(world: World) -> None:
    """13: one job that crashes the process, among many."""
    (worker,) = world.fleet(1, env={injection.DEADLY: str(DEADLY_ABOVE_DB)})
    number = world.scale.jobs // 4
    with world.load(loud=number, jobs=2 * world.scale.jobs):
        wait_for(lambda: len(worker.codes) >= MAX_SOLO_DEATHS, 120.0)
        world.expected = {f"{world.journals[-1].name}-{number:07d}": "crashes_worker"}
    world.settle()
    world.check("deaths", worker.codes == [SIGKILL] * MAX_SOLO_DEATHS, worker.codes, f"{MAX_SOLO_DEATHS} times -9")
    dead = [job for job, _ in world.dead]
    world.check("dead letters", dead == list(world.expected), dead, list(world.expected))
