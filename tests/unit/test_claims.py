"""Claims without a broker: what is allowed, what is read, how much at once; nobody waits for another's fetch."""

import asyncio
import errno
import hashlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from weakref import ref

import pytest
from pydantic import ValidationError

from schemas.claim import Claim
from schemas.job import SIGMF_CONTENT_TYPE, JobHeaders
from schemas.problems import ErrorCode
from tests.support.object_store import LOGIN
from worker.claim_stores import Chunks, ClaimStores
from worker.claims import FETCHES_AT_ONCE, ClaimBudget, Claims
from worker.config import Settings
from worker.errors import ClaimMissing, ClaimRefused, ClaimUnavailable, JobError

BODY = b"\x01\x02" * 500


@dataclass
class Delivered:
    """A delivery as claims see it."""

    headers: JobHeaders
    content_type: str = SIGMF_CONTENT_TYPE
    body: bytes = b""
    job_id: str = "job"
    held: bool = True
    fetched: bytes | None = None
    problem: JobError | None = None


@dataclass
class SlowStore:
    """Gives what it has, after a while."""

    body: bytes = BODY
    delay_s: float = 0.0
    asked: list[str] = field(default_factory=list)

    @contextmanager
    def opened(self, url: str) -> Iterator[tuple[int, Chunks]]:
        """The body, after a while."""
        self.asked.append(url)
        time.sleep(self.delay_s)
        yield len(self.body), iter([self.body])


def referring(url: str = "s3://jobs/iq/x", body: bytes = BODY, **changes: object) -> Delivered:
    """A delivery with a claim."""
    said = Claim.model_validate({"url": url, "size": len(body), "sha256": hashlib.sha256(body).hexdigest()} | changes)
    return Delivered(JobHeaders.model_validate({"claim": said.model_dump_json()}))


def claims(store: object, *, memory_bytes: int = 10_000, timeout_s: float = 5.0) -> Claims[Delivered]:
    """Claims whose `s3://jobs/iq/` is the given store."""
    stores = ClaimStores(("s3://jobs/iq/",), {"s3://": store})  # type: ignore[dict-item]
    return Claims(stores, max_bytes=memory_bytes, memory_bytes=memory_bytes, timeout_s=timeout_s)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An allowed folder with a file, beside one that is not allowed; and ways out of it."""
    for name in ("iq", "iq-secret"):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / "x").write_bytes(BODY)
    (tmp_path / "iq" / "out").symlink_to(tmp_path / "iq-secret")
    (tmp_path / "iq" / "linked").symlink_to(tmp_path / "iq-secret" / "deep" / "x")
    os.mkfifo(tmp_path / "iq" / "pipe")
    return tmp_path


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("{0}/iq/../iq-secret/deep/x", ClaimRefused),
        ("{0}/iq/%2E%2E/iq-secret/deep/x", ClaimRefused),
        ("{0}/iq//deep/x", ClaimRefused),
        ("{0}/iq/deep/x%00", ClaimRefused),
        ("{0}/iq-secret/deep/x", ClaimRefused),
        ("{0}/iq/out/deep/x", ClaimRefused),
        ("{0}/iq/linked", ClaimRefused),
        ("{0}/iq/pipe", ClaimRefused),
        ("{0}/iq/deep", ClaimRefused),
        ("{0}/iq/deep/x/y", ClaimRefused),
        ("{0}/iq/deep/y", ClaimMissing),
    ],
)
def test_files_that_are_not_read(url: str, error: type[JobError], folder: Path) -> None:
    """No dot segment, encoded or not, no link, no pipe and no folder leads to bytes; each says so."""
    stores = ClaimStores.of([f"file://{folder}/iq"])
    claim = Claim(url="file://" + url.format(folder), size=len(BODY), sha256=hashlib.sha256(BODY).hexdigest())
    with pytest.raises(error):
        stores.read(claim, time.monotonic() + 5)


def test_a_file_below_a_linked_folder_is_read(folder: Path) -> None:
    """The allowed folder itself may be a link, which is the operator's own; names may be percent-encoded."""
    (folder / "data store").symlink_to(folder / "iq")
    stores = ClaimStores.of([f"file://{folder}/data%20store"])
    url = f"file://{folder}/data%20store/deep/x"
    claim = Claim(url=url, size=len(BODY), sha256=hashlib.sha256(BODY).hexdigest())
    assert stores.read(claim, time.monotonic() + 5) == BODY


def test_a_disk_that_fails_while_it_is_read_is_unavailable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tried again it may be read: such a job must not end for good, as one that the worker has a bug with."""

    def read(*_: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    stores = ClaimStores.of([f"file://{folder}/iq"])
    claim = Claim(url=f"file://{folder}/iq/deep/x", size=len(BODY), sha256=hashlib.sha256(BODY).hexdigest())
    monkeypatch.setattr(os, "read", read)
    with pytest.raises(ClaimUnavailable, match="Input/output error"):
        stores.read(claim, time.monotonic() + 5)


@pytest.mark.parametrize(
    "url", ["s3://jobs/iq-secret/x", "s3://jobs/iq/../x", "s3://jobs/iq/./x", "s3://jobs/iq//x", "s3://other/iq/x"]
)
async def test_objects_that_are_not_asked_for(url: str) -> None:
    """A key outside the prefix, or one that a proxy could shorten, is refused before the store hears of it."""
    store = SlowStore()
    delivery = referring(url)
    await claims(store).redeem(delivery)
    assert isinstance(delivery.problem, ClaimRefused)
    assert not store.asked


@pytest.mark.parametrize(
    ("delivery", "code"),
    [
        (referring(), None),
        (referring(size=999), ErrorCode.CLAIM_MISMATCH),
        (referring(sha256="0" * 64), ErrorCode.CLAIM_MISMATCH),
        (referring(size=10_001), ErrorCode.TOO_LARGE),
        (Delivered(referring().headers, body=b"x"), ErrorCode.MALFORMED_ENVELOPE),
        (Delivered(referring().headers, content_type="application/json"), ErrorCode.MALFORMED_ENVELOPE),
    ],
)
async def test_what_becomes_of_a_claim(delivery: Delivered, code: ErrorCode | None) -> None:
    """The dataset is there, or the problem has its code."""
    await claims(SlowStore()).redeem(delivery)
    if code is None:
        assert delivery.fetched == BODY
    else:
        assert delivery.problem is not None
        assert delivery.problem.code is code


async def test_without_an_allow_list_nothing_is_followed() -> None:
    """The default refuses every reference, and names the setting."""
    delivery = referring()
    nothing: Claims[Delivered] = Claims(ClaimStores.of([]), max_bytes=10_000, memory_bytes=10_000, timeout_s=1)
    await nothing.redeem(delivery)
    assert isinstance(delivery.problem, ClaimRefused)
    assert "HEIMDALL_CLAIM_SOURCES" in delivery.problem.detail


async def test_a_slow_fetch_delays_nobody_else() -> None:
    """What has its body is handed on at once, while a fetch before it is still under way."""
    order: list[Delivered] = []
    slow, plain = referring(), Delivered(JobHeaders())
    under_test = claims(SlowStore(delay_s=0.3))
    under_test.take(slow, order.append)
    under_test.take(plain, order.append)
    assert order == [plain]
    await _until(lambda: order == [plain, slow])
    assert slow.fetched == BODY


async def test_a_store_that_hangs_ends_as_unavailable() -> None:
    """The job is answered when its time is over, not when the store's is; and that is progress."""
    under_test = claims(SlowStore(delay_s=1.5), timeout_s=0.01)
    before, delivery = under_test.progress_at, referring()
    await under_test.redeem(delivery)
    assert isinstance(delivery.problem, ClaimUnavailable)
    assert under_test.progress_at > before


async def test_a_silent_s3_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes the connection and says nothing holds a job no longer than its time."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        for name, value in (LOGIN | {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}"}).items():
            monkeypatch.setenv(name, value)
        stores = ClaimStores.of(["s3://jobs"])
        delivery = referring()
        under_test: Claims[Delivered] = Claims(stores, max_bytes=10_000, memory_bytes=10_000, timeout_s=0.5)
        await under_test.redeem(delivery)
    assert isinstance(delivery.problem, ClaimUnavailable)


async def test_the_budget_holds_back_what_does_not_fit() -> None:
    """A claim waits until what was fetched before it is settled; the sizes that count are the declared ones."""
    under_test = claims(SlowStore(), memory_bytes=1500)
    first, second = referring(), referring()
    done: list[Delivered] = []
    under_test.take(first, done.append)
    await _until(lambda: done == [first])
    under_test.take(second, done.append)
    await asyncio.sleep(0.2)
    assert done == [first]
    first.held = False
    await _until(lambda: done == [first, second])


@pytest.mark.usefixtures("no_garbage_collector")
@pytest.mark.parametrize("body", [BODY, b"not what was claimed"])
async def test_a_delivery_goes_with_who_held_it(body: bytes) -> None:
    """Neither the budget nor a refusal keeps it, and what was fetched for it, until the garbage collector comes by."""
    under_test, delivery = claims(SlowStore(body)), referring()
    await under_test.redeem(delivery)
    assert (delivery.problem is None) == (body == BODY)
    kept = ref(delivery)
    del delivery
    assert kept() is None


async def test_the_budget_is_never_exceeded() -> None:
    """Many claims at once: reservations never come to more than the limit, and all have their turn."""
    budget, held = ClaimBudget(100), [True] * 8
    most = 0

    async def one(index: int) -> None:
        nonlocal most
        await budget.reserve(40, lambda: held[index])
        most = max(most, budget.used_bytes)
        await asyncio.sleep(0.01)
        held[index] = False

    await asyncio.gather(*map(one, range(8)))
    assert most == 80


async def test_the_budget_gives_nothing_to_what_was_lost() -> None:
    """Whoever waits for room that it needs no more takes none, so that others have it."""
    budget, held = ClaimBudget(100), [True] * 20
    assert await budget.reserve(100, lambda: True)
    waiting = [asyncio.ensure_future(budget.reserve(100, lambda index=index: held[index])) for index in range(20)]
    await asyncio.sleep(0.01)
    held[:] = [False] * 20
    assert not any(await asyncio.gather(*waiting))
    assert budget.used_bytes == 100


async def test_what_was_lost_is_not_fetched() -> None:
    """Deliveries of a lost connection come again by another one; what they refer to is not asked for twice."""
    store = SlowStore(delay_s=0.3)
    under_test, done = claims(store, memory_bytes=40 * len(BODY)), []
    deliveries = [referring() for _ in range(3 * FETCHES_AT_ONCE)]
    for delivery in deliveries:
        under_test.take(delivery, done.append)
    await _until(lambda: len(store.asked) == FETCHES_AT_ONCE)
    for delivery in deliveries:
        delivery.held = False
    await under_test.drain()
    assert len(store.asked) == FETCHES_AT_ONCE
    assert sum(isinstance(delivery.problem, ClaimUnavailable) for delivery in done) == 2 * FETCHES_AT_ONCE


async def test_waiting_for_a_thread_is_not_the_stores_fault() -> None:
    """Many claims at once, which together take longer than one may: all are fetched."""
    under_test, done = claims(SlowStore(delay_s=0.3), memory_bytes=40 * len(BODY), timeout_s=1.0), []
    for _ in range(5 * FETCHES_AT_ONCE):
        under_test.take(referring(), done.append)
    await under_test.drain()
    assert [delivery.problem for delivery in done] == [None] * 5 * FETCHES_AT_ONCE


async def test_a_drain_ends_when_all_is_handed_on() -> None:
    """Not before: what is being fetched counts as held."""
    under_test, done = claims(SlowStore(delay_s=0.2)), []
    under_test.take(referring(), done.append)
    await under_test.drain()
    assert len(done) == 1


async def test_what_is_withdrawn_is_not_handed_on() -> None:
    """At the end of a drain, deliveries that still wait come back to be released."""
    order: list[Delivered] = []
    slow = referring()
    under_test = claims(SlowStore(delay_s=0.2))
    under_test.take(slow, order.append)
    await asyncio.sleep(0.05)
    assert under_test.withdraw() == [slow]
    await asyncio.sleep(0.3)
    assert not order
    under_test.close()


SOURCE = {"claim_sources": "s3://jobs/iq, file:///data/iq/", "memory_budget_bytes": 2**31}


def test_the_allow_list_is_read_as_prefixes() -> None:
    """Comma-separated, each with a slash at its end; empty by default."""
    assert Settings().claim_sources == ()
    assert Settings.model_validate(SOURCE).claim_sources == ("s3://jobs/iq/", "file:///data/iq/")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"claim_sources": "https://host/iq"}, "must be s3://bucket"),
        ({"claim_sources": "/data/iq"}, "must be s3://bucket"),
        ({"claim_sources": "file:///data/../etc"}, "must be s3://bucket"),
        ({"claim_sources": "s3://"}, "must be s3://bucket"),
        ({"claim_max_bytes": 2**27}, "HEIMDALL_CLAIM_MAX_BYTES .* would never be fetched"),
        ({"claim_timeout_s": 60}, "HEIMDALL_CLAIM_TIMEOUT_S .* HEIMDALL_LIVE_TIMEOUT_S .* look dead"),
        ({"memory_budget_bytes": 2**30}, "HEIMDALL_CLAIM_MEMORY_BYTES"),
    ],
)
def test_claim_settings_that_do_not_fit(changes: dict[str, object], message: str) -> None:
    """The start fails, and the message says what would fit."""
    with pytest.raises(ValidationError, match=message):
        Settings.model_validate(SOURCE | changes)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)
