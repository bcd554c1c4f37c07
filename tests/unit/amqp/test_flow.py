import asyncio

from worker.amqp.flow import Flow


def test_flow_is_open_while_no_reason_stands_against_it():
    """Each reason stands until it is cleared; together they are listed in order."""
    flow = Flow()
    assert flow.open
    flow.stop("store")
    flow.stop("model")
    flow.stop("store")
    assert flow.reasons == ("model", "store")
    flow.clear("model")
    assert not flow.open
    flow.clear("model")
    flow.clear("store")
    assert flow.open
    assert flow.reasons == ()


async def test_waiters_are_woken_by_what_they_wait_for():
    """One waits for open, one for closed; another reason that comes or goes wakes neither."""
    flow = Flow()
    closed = asyncio.create_task(flow.wait(open_=False))
    await asyncio.sleep(0)
    assert not closed.done()
    flow.stop("model")
    await asyncio.wait_for(closed, 5)
    open_ = asyncio.create_task(flow.wait(open_=True))
    flow.stop("store")
    flow.clear("model")
    for _ in range(5):
        await asyncio.sleep(0)
    assert not open_.done()
    flow.clear("store")
    await asyncio.wait_for(open_, 5)


async def test_what_stands_already_is_not_waited_for():
    """A state that is there is answered at once."""
    flow = Flow()
    await asyncio.wait_for(flow.wait(open_=True), 5)
    flow.stop("paused")
    await asyncio.wait_for(flow.wait(open_=False), 5)


async def test_every_waiter_is_woken_and_forgotten():
    """Several may wait; one that was cancelled leaves nothing behind."""
    flow = Flow()
    flow.stop("model")
    waiters = [asyncio.create_task(flow.wait(open_=True)) for _ in range(3)]
    await asyncio.sleep(0)
    waiters[0].cancel()
    await asyncio.gather(waiters[0], return_exceptions=True)
    flow.clear("model")
    await asyncio.wait_for(asyncio.gather(*waiters[1:]), 5)
    assert not flow._wakers
