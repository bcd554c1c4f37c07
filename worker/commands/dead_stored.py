"""What is stored under the id of a dead letter's job, and how its error makes way for a replay."""

from typing import Any, Final

import orjson
from redis.exceptions import RedisError

from client.outcomes import open_redis
from schemas.result import RESULT_KEY_PREFIX
from worker.commands.dead_letter import Letter
from worker.commands.dead_replay import Way
from worker.errors import Unavailable

# Deleted only if it still is what was judged: a worker may have stored another outcome meanwhile.
_TAKE_IF_SAME: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
local left_ms = redis.call('PTTL', KEYS[1])
redis.call('DEL', KEYS[1])
return left_ms
"""
_CHANGED: Final = -1  # PTTL itself says -1 of a key without an end, which no worker writes.


class StoredOutcomes:
    """The outcomes in Redis.

    Args:
        url: of Redis.

    Raises:
        CaptureError: the URL is none.
    """

    def __init__(self, url: str) -> None:
        self._redis = open_redis(url)
        self._take_if_same: Any = self._redis.register_script(_TAKE_IF_SAME)
        self._taken: dict[Letter, tuple[bytes, int]] = {}

    async def make_way(self, letter: Letter) -> Way:
        """Delete the stored error of this letter's job; leave anything else as it is.

        Raises:
            Unavailable: Redis does not answer; nothing was published.
        """
        key = f"{RESULT_KEY_PREFIX}{letter.job_id}"
        try:
            stored: Any = await self._redis.get(key)
            while stored is not None:
                way = judge(stored, letter)
                if way is not Way.FREE:
                    return way
                left_ms = int(await self._take_if_same(keys=[key], args=[stored]))
                if left_ms != _CHANGED:
                    self._taken[letter] = (stored, left_ms)
                    return way
                stored = await self._redis.get(key)
        except (RedisError, OSError) as error:
            raise Unavailable(f"Redis does not answer, so nothing more was replayed: {error}") from error
        return Way.FREE

    async def put_back(self, letter: Letter) -> None:
        """Store the error again, for the rest of its life, as the job was not published after all.

        Raises:
            Unavailable: Redis does not answer.
        """
        taken = self._taken.pop(letter, None)
        if taken is None or taken[1] <= 0:
            return
        try:
            await self._redis.set(f"{RESULT_KEY_PREFIX}{letter.job_id}", taken[0], nx=True, px=taken[1])
        except (RedisError, OSError) as error:
            raise Unavailable(
                f"Redis does not answer, so the error of {letter.job_id} is not stored: {error}"
            ) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()


def judge(stored: bytes, letter: Letter) -> Way:
    """Whether what is stored stands in the way of a replay; FREE = it is an error that may be deleted. Pure."""
    try:
        document = orjson.loads(stored)
        digest, is_error = document.get("input_digest"), "code" in document
    except (orjson.JSONDecodeError, AttributeError):
        return Way.TAKEN
    if digest is not None and digest != letter.input_digest:
        return Way.TAKEN
    return Way.FREE if is_error else Way.ANSWERED
