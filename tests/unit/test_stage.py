"""Stages: what runs in the thread, and what at once."""

import asyncio
import threading

from worker.stage import Stage, pieces


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


def test_pieces_hold_no_more_than_is_small_and_leave_nothing_out():
    """Small ones together up to the limit, large ones together apart; each element once, in order."""
    cut = list(pieces([4, 3, 3, 9, 20, 30, 1, 10], 10))
    assert cut == [
        (range(3), True),
        (range(3, 4), True),
        (range(4, 6), False),
        (range(6, 7), True),
        (range(7, 8), True),
    ]
    assert list(pieces([], 10)) == []


async def test_the_loop_has_a_turn_between_pieces():
    """Work on a batch is cut: other tasks go on in between, and large pieces are done in the thread."""
    stage, done, turns = Stage("features"), [], []

    async def other():
        while len(done) < 3:
            turns.append(len(done))
            await asyncio.sleep(0)

    beside = asyncio.ensure_future(other())
    await stage.run_each(lambda part: done.append((part, threading.current_thread().name)), [6, 6, 60], 10)
    await beside
    stage.close()
    main = threading.current_thread().name
    assert done == [(range(1), main), (range(1, 2), main), (range(2, 3), "features_0")]
    assert {1, 2} <= set(turns)
