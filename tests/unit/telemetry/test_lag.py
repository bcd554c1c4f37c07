import asyncio
import time

from prometheus_client import CollectorRegistry, Histogram

from worker.telemetry.lag import LoopBeat


async def test_a_blocked_loop_is_seen():
    """Each beat is an observation; one that came late because something blocked is counted as late."""
    registry = CollectorRegistry()
    beat = LoopBeat(Histogram("lag", "x", registry=registry, buckets=(0.05,)), interval=0.001)
    before = beat.beat_at
    running = asyncio.create_task(beat.run())
    value = registry.get_sample_value
    async with asyncio.timeout(30):
        while not value("lag_count"):
            await asyncio.sleep(0)
        late = value("lag_count") - value("lag_bucket", {"le": "0.05"})
        await asyncio.sleep(0)
        time.sleep(0.1)  # noqa: ASYNC251 - what a task that computes on the loop would do
        while value("lag_count") - value("lag_bucket", {"le": "0.05"}) == late:
            await asyncio.sleep(0)
    assert beat.beat_at > before
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
