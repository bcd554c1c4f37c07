"""Instants as integer nanoseconds: Python's datetime keeps microseconds, which is 300 m of path."""

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Final

from pydantic import AfterValidator, Field

_PATTERN: Final = (
    r"^([0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,18}))?([Zz]|[+-][0-9]{2}:[0-9]{2})?$"
)
_ISO_8601: Final = re.compile(_PATTERN)
_NANOSECONDS: Final = 1_000_000_000


@lru_cache(maxsize=1024)  # A job's instant is read where it is validated, and where its age is told.
def parse_datetime_ns(text: str) -> int:
    """Read an ISO 8601 / RFC 3339 instant with all its fraction digits.

    Args:
        text: such as `2020-01-09T15:00:02.123456789Z`; no zone means UTC, as SigMF has it. Digits beyond the ninth
            are dropped.

    Returns:
        Nanoseconds since the Unix epoch.

    Raises:
        ValueError: not such an instant.
    """
    match = _ISO_8601.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:64]!r} is not an ISO 8601 instant such as 2020-01-09T15:00:02.123456789Z")
    zone = match[3].upper() if match[3] else "Z"
    whole = datetime.fromisoformat(match[1].upper() + ("+00:00" if zone == "Z" else zone))
    seconds = round((whole - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
    return seconds * _NANOSECONDS + int((match[2] or "0").ljust(9, "0")[:9])


def format_datetime_ns(instant_ns: int) -> str:
    """Write nanoseconds since the Unix epoch as RFC 3339 in UTC, with nine fraction digits."""
    seconds, nanoseconds = divmod(instant_ns, _NANOSECONDS)
    return f"{_format_seconds(seconds)}.{nanoseconds:09d}Z"


@lru_cache(maxsize=16)
def _format_seconds(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def _check(text: str) -> str:
    parse_datetime_ns(text)
    return text


DateTime = Annotated[str, Field(max_length=64, json_schema_extra={"pattern": _PATTERN}), AfterValidator(_check)]
