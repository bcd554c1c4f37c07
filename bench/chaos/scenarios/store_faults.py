"""A Redis that stops, freezes, runs out of memory, is slow, or comes back empty."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Final

import redis

from bench.chaos.passages import through
from bench.chaos.proxy import Proxy
from bench.chaos.scenarios.broker_faults import check_no_dead_task
from bench.chaos.workers import Worker
from bench.chaos.world import World
from deploy.local import RedisServer
from deploy.local import redis as redis_server

PAUSED_S: Final = 20.0
_SLOW_S: Final = 0.3
_READY_S: Final = 20.0


def redis_away(world: World) -> None:
    """12: Redis away in every manner."""
    seconds = world.scale.pick(2.0, 12.0)
    with redis_server({"appendonly": "yes"}) as server, through(server.url) as (proxy, url):
        world.redis_url = server.url
        settings = {"HEIMDALL_REDIS_TIMEOUT_S": "1", "HEIMDALL_CACHE_ENABLED": "true", "HEIMDALL_REDIS_URL": url}
        (worker,) = world.fleet(1, env=settings)
        with world.load():
            world.answers(50)
            for what, broken in _manners(server, proxy, world):
                with world.disturbance(), broken:
                    if what != "slow":
                        world.within(f"{what}: no more jobs are taken", partial(_stands_still, worker), PAUSED_S)
                    world.calm(seconds)
                    world.check(f"{what}: it lives", worker.page("/health/live")[0] == 200, "", "200")
                world.within(f"{what}: it takes jobs again", worker.ready, _READY_S)
                world.answers(20)
        world.settle()
    check_no_dead_task(world, worker)


def _stands_still(worker: Worker) -> bool:
    return worker.page("/health/ready")[0] == 503 and worker.metric("heimdall_consuming") == 0


def _manners(server: RedisServer, proxy: Proxy, world: World) -> list[tuple[str, AbstractContextManager[None]]]:
    """What is done to Redis in turn; each is undone when its block ends."""
    manners: list[tuple[str, AbstractContextManager[None]]] = [
        ("stopped", _stopped(server)),
        ("frozen", _frozen(server)),
        ("out of memory", _out_of_memory(server)),
        ("slow", _slow(proxy)),
        ("restarted empty", _emptied(server)),
    ]
    return [manners[1], manners[4]] if world.scale.quick else manners


@contextmanager
def _stopped(server: RedisServer) -> Iterator[None]:
    server.stop()
    try:
        yield
    finally:
        server.start()


@contextmanager
def _frozen(server: RedisServer) -> Iterator[None]:
    server.pause()
    try:
        yield
    finally:
        server.resume()


@contextmanager
def _out_of_memory(server: RedisServer) -> Iterator[None]:
    """Writes are refused, reads are not."""
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", 1)
        try:
            yield
        finally:
            client.config_set("maxmemory", 0)


@contextmanager
def _slow(proxy: Proxy) -> Iterator[None]:
    proxy.delay_s = _SLOW_S
    try:
        yield
    finally:
        proxy.restore()


@contextmanager
def _emptied(server: RedisServer) -> Iterator[None]:
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
    server.kill()
    try:
        yield
    finally:
        server.start()
