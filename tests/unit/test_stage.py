"""Stages: what runs in the thread, and what at once."""

import asyncio
import threading

from worker.stage import Stage


async def test_work_is_done_in_a_thread_of_its_own():
    """Large pieces leave the event loop free, and keep their order."""
    stage = Stage("features")
    done: list[tuple[int, str]] = []
    pieces = (stage.run(lambda n=n: done.append((n, threading.current_thread().name))) for n in range(3))
    await asyncio.gather(*pieces)
    stage.close()
    assert [number for number, _ in done] == [0, 1, 2]
    assert {name for _, name in done} == {"features_0"}


async def test_a_small_piece_is_done_at_once():
    """On the event loop, without a hand-over."""
    stage = Stage("features")
    assert await stage.run(threading.current_thread, small=True) is threading.current_thread()
    stage.close()


async def test_a_small_piece_waits_for_a_large_one():
    """One piece at a time: while the thread is at work, a small one queues behind it."""
    stage, release, order = Stage("features"), threading.Event(), []
    large = asyncio.ensure_future(stage.run(lambda: (release.wait(10), order.append("large"))))
    await asyncio.sleep(0)
    small = asyncio.ensure_future(stage.run(lambda: order.append("small"), small=True))
    await asyncio.sleep(0.05)
    assert order == []
    release.set()
    await asyncio.gather(large, small)
    stage.close()
    assert order == ["large", "small"]
