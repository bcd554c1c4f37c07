"""Looking outcomes up: every job's result or error lies in Redis for a while, whoever published it."""

import asyncio
import re
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import orjson
from pydantic import ValidationError

from client.errors import BadReply, CaptureError, HeimdallError
from client.link import without_password
from schemas.job import JOB_ID
from schemas.problems import Problem
from schemas.result import RESULT_KEY_PREFIX, BatchResult, LocalizationResult
from schemas.urls import parse_url

if TYPE_CHECKING:
    from redis.asyncio import Redis

Outcome = LocalizationResult | BatchResult | Problem

_TIMEOUT_S: Final = 5.0
_FIRST_WAIT_S: Final = 0.05
_LONGEST_WAIT_S: Final = 1.0
_SCHEMES: Final = ("redis", "rediss", "unix")
_DATABASE: Final = re.compile(r"(/[0-9]*)?")


class StoreUnreachable(HeimdallError, ConnectionError):
    """Redis does not answer, or refuses."""


class Outcomes:
    """The stored outcomes.

    Args:
        url: `redis://host:port/database`, `rediss://`, or `unix://`.

    Raises:
        CaptureError: see `open_redis`.
    """

    def __init__(self, url: str) -> None:
        self._redis = open_redis(url)
        self._shown = without_password(parse_url(url))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._redis.aclose()

    async def get(self, job_id: str, *, wait_s: float = 0.0) -> Outcome | None:
        """A job's outcome; None where none is stored: not yet, no more, or the job is unknown.

        Args:
            job_id: as it was published.
            wait_s: seconds to wait for it.

        Raises:
            CaptureError: no job id.
            StoreUnreachable: Redis does not answer, or refuses.
            BadReply: what is stored is no outcome of this wire.
        """
        if JOB_ID.fullmatch(job_id) is None:
            raise CaptureError(f"job id {job_id!r}: it must be 1-128 of A-Z a-z 0-9 . _ -")
        ends, pause = time.monotonic() + wait_s, _FIRST_WAIT_S
        while (body := await self._stored(job_id)) is None:
            if time.monotonic() >= ends:
                return None
            await asyncio.sleep(min(pause, max(0.0, ends - time.monotonic())))
            pause = min(2 * pause, _LONGEST_WAIT_S)
        return read_outcome(job_id, body)

    async def _stored(self, job_id: str) -> bytes | None:
        import redis  # noqa: PLC0415 - an extra

        try:
            body = await self._redis.get(RESULT_KEY_PREFIX + job_id)
        except (redis.RedisError, OSError, TimeoutError) as error:
            raise StoreUnreachable(f"Redis at {self._shown}: {error or type(error).__name__}") from error
        return body.encode() if isinstance(body, str) else body


def read_outcome(job_id: str, body: bytes) -> Outcome:
    """Read a stored outcome.

    Raises:
        BadReply: it is none of this wire, or another job's.
    """
    try:
        document = orjson.loads(body)
        outcome = _kind(document).model_validate(document)
    except (orjson.JSONDecodeError, AttributeError) as error:
        raise BadReply(f"what is stored for job {job_id} is no JSON object") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = "/".join(map(str, first["loc"]))
        raise BadReply(f"what is stored for job {job_id} is no outcome: {where}: {first['msg']}") from error
    if outcome.job_id != job_id:
        raise BadReply(f"what is stored for job {job_id} speaks of job {outcome.job_id}")
    return outcome


def _kind(document: dict[str, Any]) -> type[LocalizationResult | BatchResult | Problem]:
    if document.get("code") is not None:
        return Problem
    return LocalizationResult if document.get("predictions") is None else BatchResult


def open_redis(url: str) -> "Redis":
    """A client of Redis, which connects when it is first asked.

    Args:
        url: `redis://host:port/database`, `rediss://`, or `unix://`.

    Raises:
        CaptureError: no URL of Redis, with the reason but no password; or the package `redis` is missing.
    """
    try:
        from redis import RedisError  # noqa: PLC0415 - an extra
        from redis.asyncio import Redis  # noqa: PLC0415 - an extra
    except ImportError:
        raise CaptureError(
            "looking outcomes up needs the package redis: pip install 'heimdall-worker[redis]'"
        ) from None
    _check_redis_url(url)
    try:
        redis: Redis = Redis.from_url(url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S)
        # Opens nothing, but looks at the URL's parameters. The library gives it no type.
        redis.connection_pool.make_connection()  # type: ignore[no-untyped-call]
    except (AttributeError, TypeError, ValueError, RedisError) as error:
        raise CaptureError(f"the URL of Redis has a wrong parameter after its ?: {error}") from None
    return redis


def _check_redis_url(url: str) -> None:
    try:
        parsed = parse_url(url)
    except ValueError as error:
        raise CaptureError(f"the URL of Redis {error}") from None
    if parsed.scheme not in _SCHEMES:
        raise CaptureError("the URL of Redis must start with redis://, rediss:// or unix://")
    if parsed.scheme != "unix" and not _DATABASE.fullmatch(parsed.path):
        # The library would look into database 0 instead.
        raise CaptureError("the URL of Redis must end in the number of a database, such as /0, or in none")
