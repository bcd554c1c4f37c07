"""A broker that freezes, restarts, closes connections, raises an alarm, is full, or loses the queue."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from bench.chaos import broker_side, injection, journal
from bench.chaos.workers import Worker, stopped, wait_for
from bench.chaos.world import PREFETCH, World

NOTICED_S: Final = 35.0
CONSUMING_S: Final = 10.0
MIB: Final = 2**20
MAX_GROWTH_MIB: Final = 32
_BEFORE_ALARM: Final = 3
_REPLY_S: Final = 5.0


def frozen_broker(world: World) -> None:
    """5: SIGSTOP to the broker."""
    (worker,) = world.fleet(1)
    with world.load():
        world.answers(50)
        with world.disturbance(), stopped(world.site.broker):
            began = time.monotonic()
            if not world.scale.quick:
                world.within("it notices a silent broker", lambda: not worker.ready(), NOTICED_S)
            world.calm(max(0.0, world.scale.pick(4.0, 60.0) - (time.monotonic() - began)))
        world.within("it takes jobs again", worker.ready, CONSUMING_S)
    world.settle()
    check_no_dead_task(world, worker)


def restarted_broker(world: World) -> None:
    """6: the broker restarted, and killed."""
    (worker,) = world.fleet(1)
    broker = world.site.broker
    manners = [broker.stop] * world.scale.pick(1, 5) + [broker.kill] * world.scale.pick(1, 3)
    with world.load():
        world.answers(50)
        for end in manners:
            _restart(world, worker, end)
            world.answers(20)
    world.settle()
    check_no_dead_task(world, worker)


def _restart(world: World, worker: Worker, end: Callable[[], None]) -> None:
    with world.disturbance():
        end()
        world.calm(1.0)
        world.site.broker.start()
    world.within("it takes jobs again", worker.ready, CONSUMING_S + 10.0)


def closed_connections(world: World) -> None:
    """7: every connection closed by the broker, again and again."""
    rounds = world.scale.pick(2, 50)
    tasks = world.directory / "tasks"
    (worker,) = world.fleet(1, env={injection.TASKS: str(tasks)})
    descriptors = []
    with world.load():
        world.answers(50)
        before = len(tasks.read_text().split())
        for _ in range(rounds):
            with world.disturbance():
                world.site.broker.ctl("close_all_connections", "closed by the fault suite")
            world.calm(world.scale.pick(1.0, 1.5))
            wait_for(worker.ready, CONSUMING_S + 10.0)
            descriptors.append(worker.system.num_fds())
        world.calm(2.0)
        counted = [int(line) for line in tasks.read_text().split()[before:]]
    world.settle()
    check_no_dead_task(world, worker)
    check_flat(world, "file descriptors", descriptors, slack=5)
    check_flat(world, "asyncio tasks", counted, slack=20)


def memory_alarm(world: World) -> None:
    """10: the broker's memory alarm."""
    (worker,) = world.fleet(1)
    broker = world.site.broker
    with world.load(), _watched(worker) as sizes:
        world.answers(200)
        world.calm(3.0)
        with world.disturbance():
            broker.ctl("set_vm_memory_high_watermark", "absolute", "1MB")
            try:
                world.silence(world.scale.pick(10.0, 60.0))
            finally:
                broker.ctl("set_vm_memory_high_watermark", "0.4")
        world.within("it takes jobs again", worker.ready, CONSUMING_S + 20.0)
        world.answers(50)
    world.settle()
    check_no_dead_task(world, worker)
    before = max(sizes[:_BEFORE_ALARM])
    growth = (max(sizes) - before) / MIB
    world.check(
        "memory grows by",
        growth <= MAX_GROWTH_MIB,
        f"{growth:.1f} MiB of {before / MIB:.0f}",
        f"≤ {MAX_GROWTH_MIB} MiB",
    )


@contextmanager
def _watched(worker: Worker) -> Iterator[list[int]]:
    """Resident memory, bytes, once a second while the block runs."""
    sizes = [worker.system.memory_info().rss]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(1.0):
            sizes.append(worker.system.memory_info().rss)

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield sizes
    finally:
        over.set()
        watching.join()


def deleted_queue(world: World) -> None:
    """11: the queue deleted with jobs in it, and made again by the worker."""
    (worker,) = world.fleet(1)
    with world.load() as load:
        world.answers(50)
        with world.disturbance():
            with stopped(worker):
                world.calm(1.0)
                with stopped(load):
                    frozen_at = time.monotonic()
                    world.calm(0.5)
                    waiting = broker_side.ready(world.amqp_url, broker_side.JOBS)
                    broker_side.delete_queue(world.amqp_url, broker_side.JOBS)
                world.calm(1.5)
            wait_for(lambda: worker.metric("heimdall_broker_connects_total") > 1, 30.0)
            world.within("it takes jobs again", worker.ready, CONSUMING_S + 10.0)
        moved = broker_side.reroute(world.amqp_url)
        record = journal.read(*world.journals)
        world.apart = {job for job, at in record.published.items() if at < frozen_at}
    world.apart -= world.stored(world.apart).keys() | world.replies().keys()
    world.settle()
    most = waiting + PREFETCH
    gone = len(world.apart)
    world.check("jobs gone with the queue", 0 < gone <= most, gone, f"≤ {waiting} waiting + {PREFETCH} held")
    world.check("jobs that landed in heimdall.unrouted meanwhile", len(moved) > 0, len(moved), "> 0, published again")


def full_queue(world: World) -> None:
    """20: the queue filled to its limit, then drained."""
    (worker,) = world.fleet(1, env={"HEIMDALL_QUEUE_MAX_BYTES": str(MIB)})
    with world.load():
        world.answers(50)
        with world.disturbance():
            answer = broker_side.command(world.amqp_url, "pause", to=worker.instance)
            world.check("the command pause", answer.get("ok") is True, answer.get("detail", "no answer"), "obeyed")
            refused = wait_for(lambda: journal.read(*world.journals).refused > 0, 60.0)
            world.check("publishers are refused", refused is not None, "yes" if refused else "no", "yes")
            world.calm(2.0)
            held = broker_side.ready(world.amqp_url, broker_side.JOBS)
            broker_side.command(world.amqp_url, "resume", to=worker.instance)
        world.within("it takes jobs again", worker.ready, CONSUMING_S)
        world.answers(held)
        slow = _slow_replies(worker)
    world.settle()
    world.notes.append(f"{held} jobs filled the queue; {journal.read(*world.journals).refused} publishes were refused")
    world.check("confirms of replies slower than 5 s", slow == 0, slow, 0)


def _slow_replies(worker: Worker) -> float:
    found = worker.buckets("heimdall_stage_seconds", stage="reply")
    return found[math.inf] - found[_REPLY_S]


def check_no_dead_task(world: World, worker: Worker) -> None:
    """The worker lived through it with all its tasks."""
    failed = [line.get("task") for line in worker.events("service.task_failed")]
    crashed = [line.get("exception", "") for line in worker.events("batch.crashed")]
    world.check("tasks that ended", not failed and not worker.codes, failed + worker.codes, "none")
    world.check("batches that crashed", not crashed, len(crashed), 0)


def check_flat(world: World, what: str, series: list[int], *, slack: int) -> None:
    """The last quarter of a series is no higher than the first. Their lowest values: load only adds to them."""
    part = max(1, len(series) // 4)
    first, last = min(series[:part]), min(series[-part:])
    world.check(what, last <= first + slack, f"{first} → {last}", f"grow by ≤ {slack}")
