"""A cluster of three brokers that loses the leader of its queue."""

from functools import partial
from typing import Final

from bench.chaos import cluster, journal
from bench.chaos.broker_side import JOBS
from bench.chaos.cluster import Cluster
from bench.chaos.passages import through
from bench.chaos.scenarios.broker_faults import check_no_dead_task
from bench.chaos.workers import Worker, wait_for
from bench.chaos.world import World

SETTLING_S: Final = 30.0
_MORE: Final = 20


def killed_leader(world: World) -> None:
    """18: kill -9 of the leader of a three-node quorum queue."""
    kills = world.scale.pick(1, 10)
    with cluster.running() as brokers, through(*(member.url for member in brokers.members)) as (_, url):
        world.amqp_url = url
        (worker,) = world.fleet(1)
        with world.load(queue_type="quorum"):
            world.answers(50)
            waits = [_kill_leader(world, brokers, worker) for _ in range(kills)]
            whole = brokers.until_whole(JOBS)
            returned = int(worker.metric("heimdall_undeliverable_replies_total"))
        world.settle()
    slowest = max((wait for wait in waits if wait is not None), default=0.0)
    world.check(
        "jobs settled without the leader",
        None not in waits,
        f"{len(waits)} times, {slowest:.1f} s at most",
        f"≤ {SETTLING_S:g} s",
    )
    world.check("every member has a replica again", whole, "yes" if whole else "no", "yes")
    refused = journal.read(*world.journals).refused
    world.notes.append(
        f"publishes that the broker refused meanwhile: {refused}; replies: {returned}, stored all the same"
    )
    check_no_dead_task(world, worker)


def _kill_leader(world: World, brokers: Cluster, worker: Worker) -> float | None:
    """Kill it, wait until jobs are settled without it, and start it again; how long that took, seconds."""
    brokers.until_whole(JOBS)
    leader = brokers.leader(JOBS)
    with world.disturbance():
        leader.kill()
        world.calm(2.0)
    wait_for(partial(_settles_more, worker, 0.0), SETTLING_S)  # A page that does not answer counts nothing.
    took = wait_for(partial(_settles_more, worker, worker.metric("heimdall_jobs_total")), SETTLING_S)
    leader.start()
    return took


def _settles_more(worker: Worker, before: float) -> bool:
    return worker.metric("heimdall_jobs_total") > before + _MORE
