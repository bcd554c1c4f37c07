"""Waiting until every job has its end, and gathering what became of each."""

import signal
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import orjson
import redis

from bench.chaos import journal
from bench.chaos.jobs import Bodies, number_of
from bench.chaos.oracle import Answer
from bench.chaos.workers import wait_for
from deploy.local.process import OwnedProcess
from schemas.result import RESULT_KEY_PREFIX

PATIENCE_S: Final = 300.0
_CONFIRMED_S: Final = 60.0
_MGET: Final = 1000
_POLL_S: Final = 0.3


def until_confirmed(load: OwnedProcess, directory: Path, jobs: int) -> bool:
    """Let a load publish until enough jobs are confirmed, then no more; whether all were confirmed in the end."""
    wait_for(lambda: len(journal.confirmed(directory)) >= jobs or not load.running, PATIENCE_S, _POLL_S)
    if load.running:
        load.signal(signal.SIGUSR1)
    return wait_for((directory / journal.DONE).exists, _CONFIRMED_S) is not None


def until_answered(journals: Sequence[Path], has_end: Callable[[set[str]], set[str]], stuck_s: float) -> None:
    """Wait until every confirmed job has its end, or nothing has moved for some time.

    Args:
        journals: of the load.
        has_end: of jobs without a reply, those that ended otherwise.
        stuck_s: after so long without news there will be none.
    """
    missing, since = -1, time.monotonic()
    ends = since + PATIENCE_S
    while time.monotonic() < min(ends, since + stuck_s):
        open_ = set(journal.confirmed(*journals)) - journal.answered(*journals)
        if not open_ or open_ <= has_end(open_):
            return
        if len(open_) != missing:
            missing, since = len(open_), time.monotonic()
        time.sleep(_POLL_S)


def stored(redis_url: str, bodies: Bodies, jobs: Iterable[str]) -> dict[str, Answer]:
    """Outcomes in Redis."""
    wanted = sorted(jobs)
    found: dict[str, Answer] = {}
    with redis.Redis.from_url(redis_url) as client:
        for start in range(0, len(wanted), _MGET):
            part = wanted[start : start + _MGET]
            values: list[Any] = client.mget([RESULT_KEY_PREFIX + job for job in part])
            found |= {job: _answer(job, body, bodies) for job, body in zip(part, values, strict=True) if body}
    return found


def _answer(job: str, body: bytes, bodies: Bodies) -> Answer:
    document = orjson.loads(body)
    fits = document.get("job_id") == job and bodies.fits(number_of(job), document)
    return Answer(journal.digest(body), document.get("code"), fits)
