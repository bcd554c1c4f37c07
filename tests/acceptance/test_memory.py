"""What stays in a worker's memory once its jobs are settled: nothing of their bodies."""

import asyncio
from typing import Any

import psutil

from tests.support.bad_jobs import BAD_JOBS
from tests.support.models import tone
from tests.support.station import AS_IN_SERVICE, Publisher, Station, publisher

SAMPLES = 30_000
BATCH = 32
BATCHES = 8
BODIES_BYTES = len(BAD_JOBS) * BATCHES * BATCH * 8 * SAMPLES


async def batch(jobs: Publisher, one: dict[str, Any]) -> None:
    """Publish one job among good ones, and await all answers."""
    good = {"body": tone(1, n=SAMPLES)}
    sent = await asyncio.gather(*(jobs.publish(**(one if number == 0 else good)) for number in range(BATCH)))
    await asyncio.gather(*(jobs.reply(correlation_id) for correlation_id in sent))
    for kept in (jobs.replies, jobs.events, jobs.dead):
        kept.clear()


async def test_bad_jobs_do_not_keep_their_neighbours(own_station: Station) -> None:
    """Of hundreds of megabytes of good bodies beside bad ones of every kind, less than a fortieth is ever kept."""
    process = psutil.Process(own_station.worker(HEIMDALL_CACHE_ENABLED="false", **AS_IN_SERVICE).pid)
    async with publisher(own_station.amqp_url) as jobs:
        for _ in range(3 * BATCHES):  # What a worker needs for itself, it has then.
            await batch(jobs, {"body": tone(1, n=SAMPLES)})
        before = most = process.memory_info().rss
        for make in BAD_JOBS.values():
            for _ in range(BATCHES):
                await batch(jobs, make())
                most = max(most, process.memory_info().rss)
    assert most - before < BODIES_BYTES / 40
