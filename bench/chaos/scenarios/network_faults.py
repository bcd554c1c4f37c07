"""A network that drops, resets, is slow, and breaks off at every byte of what a worker publishes and acknowledges."""

from typing import Final

from bench.chaos.frames import ACK, PUBLISH
from bench.chaos.passages import through
from bench.chaos.proxy import Cut
from bench.chaos.scenarios.broker_faults import check_no_dead_task
from bench.chaos.workers import wait_for
from bench.chaos.world import World

MBIT_BYTES_PER_S: Final = 125_000.0
_ACK_BYTES: Final = 21
_PUBLISH_OFFSETS: Final = (0, 1, 2, 4, 7, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
_TAKEN_S: Final = 30.0


def bad_network(world: World) -> None:
    """8: packets dropped, connections reset, a narrow line."""
    with through(world.amqp_url) as (proxy, url):
        (worker,) = world.fleet(1, env={"HEIMDALL_AMQP_URL": url})
        with world.load():
            world.answers(50)
            with world.disturbance():
                proxy.black_hole = True
                world.silence(world.scale.pick(15.0, 45.0))
                proxy.restore()
            world.within("it takes jobs again after packets were dropped", worker.ready, 20.0)
            world.answers(50)
            with world.disturbance():
                reset = proxy.reset_all()
            world.check("connections reset", reset >= 2, reset, "≥ 2")
            world.calm(1.0)
            world.within("it takes jobs again after resets", worker.ready, 20.0)
            world.answers(50)
            proxy.bytes_per_s = MBIT_BYTES_PER_S
            world.calm(world.scale.pick(5.0, 20.0))
            world.answers(10)
            proxy.restore()
        world.settle()
    check_no_dead_task(world, worker)


def cut_at_every_byte(world: World) -> None:
    """9: the connection cut at growing offsets of what the worker publishes and acknowledges."""
    step = world.scale.pick(7, 1)
    cuts = [Cut(ACK, after) for after in range(0, _ACK_BYTES + 1, step)]
    cuts += [Cut(PUBLISH, after) for after in _PUBLISH_OFFSETS[::step]]
    made = 0
    with through(world.amqp_url) as (proxy, url):
        (worker,) = world.fleet(1, env={"HEIMDALL_AMQP_URL": url})
        with world.load():
            world.answers(50)
            for cut in cuts:
                with world.disturbance():
                    proxy.cut = cut
                    made += wait_for(lambda: proxy.cut is None, _TAKEN_S, 0.02) is not None
                    world.calm(0.3)
                    wait_for(worker.ready, _TAKEN_S)
        world.settle()
    world.check("cuts made", made == len(cuts), made, len(cuts))
    check_no_dead_task(world, worker)
