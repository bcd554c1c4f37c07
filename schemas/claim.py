"""A claim check: where the dataset of a job lies that is too large for a message.

The reference travels in the header `claim` as JSON text; the body is empty. What is fetched must have the size and
the digest that the claim states, so that the job stays what its publisher meant.
"""

import re
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

MAX_CLAIM_URL: Final = 1100
"""A bucket's name has at most 63 characters, a key at most 1024 bytes."""

_PATTERN: Final = r"^(?:s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/|file:///)[^\x00-\x1f\x7f]+$"
_KNOWN: Final = re.compile(_PATTERN)


def _check(url: str) -> str:
    if _KNOWN.fullmatch(url) is None:
        raise ValueError(f"{url[:100]!r} is no reference: it must be s3://bucket/key or file:///path")
    return url


Url = Annotated[str, Field(max_length=MAX_CLAIM_URL, json_schema_extra={"pattern": _PATTERN}), AfterValidator(_check)]


class Claim(BaseModel):
    """A reference to a dataset."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Url = Field(
        description="`s3://bucket/key`, or `file:///path` on a file system that publisher and workers share. A worker "
        "follows it only where its operator allows."
    )
    size: Annotated[int, Field(ge=1)] = Field(description="Bytes.")
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] = Field(description="Of the bytes, hexadecimal.")
