"""Terminal outcomes of jobs in Redis, at `heimdall:result:{job_id}`, and the count of suspects.

One `SET NX GET EX` per job decides which of two concurrent workers is heard: what the store holds is what is sent.
Those of a batch run as one script in the server, because the client needs longer for each answer than Redis does.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from redis.exceptions import NoScriptError, ResponseError

from schemas.result import RESULT_KEY_PREFIX
from worker.store.connection import StoreConnection

SUSPECT_KEY_PREFIX = "heimdall:suspect:"
NO_OUTCOME = b""
"""Stands for what lies under a job's key and is no outcome."""
_WRONG_TYPE = "WRONGTYPE"
# ARGV: seconds to live, then a value for each key. What fails for one key must not keep the others from being set.
_SAVE: Final = """
local before = {}
for i, key in ipairs(KEYS) do
  before[i] = redis.pcall('SET', key, ARGV[i + 1], 'NX', 'GET', 'EX', ARGV[1])
end
return before
"""


class Outcomes:
    """Stored outcomes.

    Every method repeats its call while Redis is away, and raises `Unavailable` when that takes too long.

    Args:
        connection: to Redis.
        ttl_s: life of an outcome, seconds.
    """

    def __init__(self, connection: StoreConnection, ttl_s: int) -> None:
        self._connection = connection
        self._ttl_s = ttl_s
        self._script = connection.client.register_script(_SAVE)

    async def lookup(self, job_ids: Sequence[str]) -> dict[str, bytes]:
        """What is stored of these jobs already."""
        if not job_ids:
            return {}
        keys = [RESULT_KEY_PREFIX + job_id for job_id in job_ids]
        found: list[Any] = await self._connection.insist(partial(self._connection.commands.execute, "MGET", *keys))
        return {job_id: stored for job_id, stored in zip(job_ids, found, strict=True) if stored is not None}

    async def save(self, outcomes: Sequence[tuple[str, bytes]]) -> list[bytes]:
        """Store outcomes, (job id, bytes) each; where one is stored already, it stays.

        Returns:
            What is stored now, for every entry. An id that comes twice is answered as its first entry.
        """
        if not outcomes:
            return []

        keys = [RESULT_KEY_PREFIX + job_id for job_id, _ in outcomes]
        values = [outcome for _, outcome in outcomes]

        async def call() -> list[Any]:
            answers = await self._run(len(keys), *keys, self._ttl_s, *values)
            return [_judged(answer) for answer in answers]

        before = await self._connection.insist(call)
        return [new if stored is None else stored for (_, new), stored in zip(outcomes, before, strict=True)]

    async def _run(self, *words: Any) -> list[Any]:
        """The script's answers; it is loaded where Redis does not have it, or no longer."""
        run = partial(self._connection.commands.execute, "EVALSHA", self._script.sha, *words)
        try:
            return list(await run())
        except NoScriptError:
            await self._connection.client.script_load(_SAVE)
            return list(await run())

    async def count_suspect(self, job_id: str) -> int:
        """Note that work on a suspect is about to start alone.

        Returns:
            How often that was noted, this time included.
        """
        key = SUSPECT_KEY_PREFIX + job_id

        async def call() -> int:
            async with self._connection.client.pipeline(transaction=True) as pipeline:
                pipeline.incr(key)
                pipeline.expire(key, self._ttl_s)
                return int((await pipeline.execute())[0])

        return await self._connection.insist(call)

    async def clear_suspects(self, job_ids: Sequence[str]) -> None:
        """Forget the counts of jobs that are settled; where Redis is away they expire."""
        if job_ids:
            keys = [SUSPECT_KEY_PREFIX + job_id for job_id in job_ids]
            await self._connection.attempt(lambda: self._connection.client.delete(*keys))

    async def forgive_suspects(self, job_ids: Sequence[str]) -> None:
        """Take back one count each, of jobs on which work ended without a crash and without an outcome."""
        for job_id in job_ids:
            await self._connection.attempt(partial(self._connection.client.decr, SUSPECT_KEY_PREFIX + job_id))


def _judged(answer: Any) -> Any:
    """An answer to one command. A key of another type is that key's fault alone; any other error is Redis's."""
    if isinstance(answer, ResponseError) and str(answer).startswith(_WRONG_TYPE):
        return NO_OUTCOME
    if isinstance(answer, Exception):
        raise answer
    return answer
