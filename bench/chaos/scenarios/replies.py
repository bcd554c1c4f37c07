"""Replies that nobody takes."""

from typing import Final

from bench.chaos import broker_side, journal
from bench.chaos.workers import Worker, wait_for
from bench.chaos.world import World

SHARE: Final = 0.5


def nobody_listens(world: World) -> None:
    """14: a reply queue that does not exist, and a requester that has gone."""
    (worker,) = world.fleet(1)
    with world.load(no_reply_queue=SHARE):
        world.answers(20)
        gone = world.scale.pick(50, 500)
        _requester_leaves(world, worker, gone)
    confirmed = journal.confirmed(*world.journals)
    missing = sum(int(job.rpartition("-")[2]) % 100 < 100 * SHARE for job in journal.confirmed(world.journals[0]))
    wait_for(lambda: worker.metric("heimdall_in_flight") == 0, 10.0)
    delivered = int(worker.metric("heimdall_deliveries_total"))
    counted = int(worker.metric("heimdall_undeliverable_replies_total"))
    world.settle()
    # Direct reply-to tells of no requester that has gone: those are done like any other.
    bound = f"{missing} without a queue, none of {gone} whose requester has gone"
    world.check("replies counted as undeliverable", counted == missing, counted, bound)
    world.check("deliveries", delivered == len(confirmed), delivered, f"one for each of {len(confirmed)} jobs")


def _requester_leaves(world: World, worker: Worker, jobs: int) -> None:
    """Jobs whose requester has gone before they are computed: direct reply-to of a connection that is closed."""
    paused = broker_side.command(world.amqp_url, "pause", to=worker.instance)
    world.check("the command pause", paused.get("ok") is True, paused.get("detail"), "obeyed")
    with world.load(direct=True, most=jobs, jobs=jobs, until_answered=False) as requester:
        wait_for((world.journals[-1] / journal.DONE).exists, 60.0)
        requester.kill()
    broker_side.command(world.amqp_url, "resume", to=worker.instance)
