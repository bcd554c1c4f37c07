import asyncio
from contextlib import asynccontextmanager

from worker.serving.batcher import MicroBatcher
from worker.serving.policy import BatchPolicy

PATIENCE_S = 10.0


class Stage:
    """Batches that end when they are let go, and a record of what ran beside what."""

    def __init__(self, *, hold=False):
        self.batches = []
        self.beside = []
        self.running = 0
        self.leaves = []
        self.crashes = []
        self.error = None
        self._changed = asyncio.Event()
        self._gates = asyncio.Semaphore(0)
        self._hold = hold

    async def run_batch(self, batch, leave_features):
        """Run, as the pipeline would."""
        self.batches.append(batch)
        self.leaves.append(leave_features)
        self.beside.append(self.running)
        self.running += 1
        self._changed.set()
        try:
            if self._hold:
                await self._gates.acquire()
            if self.error is not None:
                error, self.error = self.error, None
                raise error
        finally:
            self.running -= 1
            self._changed.set()

    def let_go(self, batches=1):
        """Let batches end."""
        for _ in range(batches):
            self._gates.release()

    async def until(self, condition):
        """Wait until a condition holds; it is looked at whenever a batch starts or ends."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


async def settle():
    """Let every callback that is ready run."""
    for _ in range(10):
        await asyncio.sleep(0)


@asynccontextmanager
async def running(stage, policy, *, max_in_flight=2):
    """A batcher that dispatches to a stage; arrivals that start with `!` are suspects."""
    batcher = MicroBatcher(
        policy,
        stage.run_batch,
        is_suspect=lambda arrival: str(arrival).startswith("!"),
        max_in_flight=max_in_flight,
        on_crash=stage.crashes.append,
    )
    task = asyncio.create_task(batcher.run())
    try:
        yield batcher
    finally:
        stage.let_go(100)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


FOREVER = BatchPolicy(max_batch_size=4, max_wait=3600.0, eager=False)


async def test_a_full_batch_goes_at_once():
    """Four arrivals of four do not wait for the clock; the fifth does."""
    stage = Stage()
    async with running(stage, FOREVER) as batcher:
        for arrival in "abcde":
            batcher.put(arrival)
        await stage.until(lambda: stage.batches and not stage.running)
        await settle()
        assert stage.batches == [list("abcd")]
        assert batcher.waiting == 1


async def test_an_incomplete_batch_goes_after_max_wait():
    """What waits is dispatched when its first arrival has waited long enough."""
    stage = Stage()
    async with running(stage, BatchPolicy(4, 0.05, eager=False)) as batcher:
        batcher.put("a")
        batcher.put("b")
        await settle()
        assert stage.batches == []
        await stage.until(lambda: stage.batches)
        assert stage.batches == [["a", "b"]]


async def test_an_eager_batcher_makes_a_lone_arrival_wait_for_nothing():
    """With the stage free, a single arrival goes before any clock runs."""
    stage = Stage()
    async with running(stage, BatchPolicy(4, 3600.0, eager=True)) as batcher:
        batcher.put("a")
        await stage.until(lambda: stage.batches)
        assert stage.batches == [["a"]]


async def test_arrivals_gather_while_the_stage_is_busy():
    """Under load batches fill: what came while the stage was busy goes together."""
    stage = Stage(hold=True)
    async with running(stage, BatchPolicy(4, 0.0, eager=True)) as batcher:
        batcher.put("a")
        await stage.until(lambda: stage.running == 1)
        for arrival in "bcd":
            batcher.put(arrival)
            await settle()
        assert stage.batches == [["a"]]
        stage.leaves[-1]()
        await stage.until(lambda: len(stage.batches) == 2)
        assert stage.batches[1] == ["b", "c", "d"]
        assert stage.beside == [0, 1]


async def test_a_batch_frees_the_stage_for_itself_alone():
    """Leaving the stage twice, or after the end, does not free it while the next batch is in it."""
    stage = Stage(hold=True)
    async with running(stage, BatchPolicy(1, 0.0, eager=True), max_in_flight=4) as batcher:
        for arrival in "abc":
            batcher.put(arrival)
        await stage.until(lambda: len(stage.batches) == 1)
        stage.leaves[0]()
        await stage.until(lambda: len(stage.batches) == 2)
        stage.leaves[0]()
        stage.let_go()
        await stage.until(lambda: stage.running == 1)
        await settle()
        assert len(stage.batches) == 2, "the second batch is still in the stage"
        stage.leaves[1]()
        await stage.until(lambda: len(stage.batches) == 3)


async def test_a_batch_that_never_says_so_frees_the_stage_by_its_end():
    """A stage is not lost with a batch that ended early."""
    stage = Stage()
    async with running(stage, BatchPolicy(1, 0.0, eager=True)) as batcher:
        batcher.put("a")
        batcher.put("b")
        await stage.until(lambda: len(stage.batches) == 2)


async def test_no_more_batches_run_than_may():
    """A free stage does not start a third batch of two."""
    stage = Stage(hold=True)
    async with running(stage, BatchPolicy(1, 0.0, eager=True), max_in_flight=2) as batcher:
        for arrival in "abc":
            batcher.put(arrival)
        for started in (1, 2):
            await stage.until(lambda n=started: len(stage.batches) == n)
            stage.leaves[-1]()
        await settle()
        assert batcher.in_flight == 2
        assert batcher.waiting == 1
        stage.let_go()
        await stage.until(lambda: stage.running == 1)
        stage.leaves[-1]()
        await stage.until(lambda: len(stage.batches) == 3)


async def test_a_suspect_runs_alone_with_nothing_beside():
    """A suspect waits for what runs, and nothing starts until it has ended."""
    stage = Stage(hold=True)
    async with running(stage, BatchPolicy(4, 0.0, eager=True), max_in_flight=4) as batcher:
        batcher.put("a")
        await stage.until(lambda: stage.running == 1)
        stage.leaves[-1]()
        batcher.put("!1")
        batcher.put("b")
        await settle()
        batcher.put("!2")
        await settle()
        assert stage.batches == [["a"]], "a suspect started beside a batch"
        stage.let_go()
        await stage.until(lambda: len(stage.batches) == 2)
        stage.leaves[-1]()
        await settle()
        assert stage.batches[1:] == [["!1"]], "something started beside a suspect"
        stage.let_go()
        await stage.until(lambda: len(stage.batches) == 3)
        await settle()
        assert stage.batches[2:] == [["!2"]]
        stage.let_go()
        await stage.until(lambda: len(stage.batches) == 4)
        assert stage.batches[3] == ["b"]
        assert stage.beside == [0, 0, 0, 0]


async def test_a_crash_of_a_batch_stops_nothing():
    """What a batch lets out is told, and the next batch runs."""
    stage = Stage()
    async with running(stage, BatchPolicy(1, 0.0, eager=True)) as batcher:
        stage.error = ValueError("a bug")
        batcher.put("a")
        await stage.until(lambda: len(stage.batches) == 1 and not stage.running)
        await settle()
        assert [str(error) for error in stage.crashes] == ["a bug"]
        batcher.put("b")
        await stage.until(lambda: len(stage.batches) == 2)
        assert stage.batches == [["a"], ["b"]]


async def test_a_crash_of_a_suspect_stops_nothing():
    """The same for a suspect, which the dispatching itself waits for."""
    stage = Stage()
    async with running(stage, BatchPolicy(1, 0.0, eager=True)) as batcher:
        stage.error = ValueError("a bug")
        batcher.put("!a")
        batcher.put("b")
        await stage.until(lambda: len(stage.batches) == 2)
        assert len(stage.crashes) == 1


async def test_drain_waits_for_all_that_waits_and_runs():
    """After a drain nothing is held; suspects that wait are run, too."""
    stage = Stage(hold=True)
    async with running(stage, BatchPolicy(2, 0.0, eager=True)) as batcher:
        for arrival in ("a", "b", "c", "!d"):
            batcher.put(arrival)
        draining = asyncio.create_task(batcher.drain())
        await stage.until(lambda: stage.running)
        await settle()
        assert not draining.done()
        stage.let_go(10)
        async with asyncio.timeout(PATIENCE_S):
            await draining
        assert batcher.idle
        assert sorted(arrival for batch in stage.batches for arrival in batch) == ["!d", "a", "b", "c"]


async def test_draining_an_idle_batcher_ends_at_once():
    """Nothing held is nothing to wait for."""
    stage = Stage()
    async with running(stage, FOREVER) as batcher, asyncio.timeout(PATIENCE_S):
        await batcher.drain()


async def test_a_suspect_that_waits_for_others_is_still_held():
    """Until it runs, a suspect counts as waiting, so that a drain waits for it and a withdrawal returns it."""
    stage = Stage(hold=True)
    async with running(stage, BatchPolicy(4, 0.0, eager=True)) as batcher:
        batcher.put("a")
        await stage.until(lambda: stage.running == 1)
        batcher.put("!b")
        await settle()
        assert batcher.waiting == 1
        assert batcher.withdraw() == ["!b"]


async def test_a_drain_does_not_overlook_a_suspect():
    """A drain that began before a suspect arrived waits for it all the same."""
    stage = Stage(hold=True)
    async with running(stage, BatchPolicy(4, 0.0, eager=True)) as batcher:
        batcher.put("a")
        await stage.until(lambda: stage.running == 1)
        draining = asyncio.create_task(batcher.drain())
        await settle()
        batcher.put("!b")
        await settle()
        stage.let_go(2)
        async with asyncio.timeout(PATIENCE_S):
            await draining
        assert stage.batches == [["a"], ["!b"]]


async def test_what_waits_can_be_withdrawn():
    """Suspects first, then the others in their order; nothing is left, and what runs goes on."""
    stage = Stage(hold=True)
    async with running(stage, FOREVER) as batcher:
        for arrival in "abcd":
            batcher.put(arrival)
        await stage.until(lambda: stage.running == 1)
        batcher.put("e")
        batcher.put("f")
        assert batcher.withdraw() == ["e", "f"]
        assert batcher.waiting == 0
        assert batcher.withdraw() == []
        assert batcher.in_flight == 1
        assert not batcher.idle


async def test_before_it_runs_everything_can_be_withdrawn():
    """A batcher that was never started gives back all, suspects first."""
    batcher = MicroBatcher(
        FOREVER, Stage().run_batch, is_suspect=lambda a: a == "!", max_in_flight=1, on_crash=lambda _: None
    )
    for arrival in ("a", "!", "b"):
        batcher.put(arrival)
    assert batcher.waiting == 3
    assert batcher.withdraw() == ["!", "a", "b"]


async def test_progress_is_noted_when_batches_start_and_end():
    """Liveness sees both ends of a batch."""
    stage = Stage(hold=True)
    async with running(stage, BatchPolicy(4, 0.0, eager=True)) as batcher:
        batcher.progress_at = 0.0
        batcher.put("a")
        await stage.until(lambda: stage.running == 1)
        assert batcher.progress_at > 0
        batcher.progress_at = 0.0
        stage.let_go()
        await stage.until(lambda: not stage.running)
        await settle()
        assert batcher.progress_at > 0
