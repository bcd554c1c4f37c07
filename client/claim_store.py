"""Where bodies go that are too large for a message: an S3 bucket, or a folder that the workers see too.

An object is named by its digest. So a repeat puts the same bytes at the same place, and two publishers never harm
each other.
"""

import asyncio
import hashlib
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote

from client.errors import CaptureError, HeimdallError
from schemas.claim import Claim

S3: Final = "s3://"
FILE: Final = "file://"
_FORM: Final = "it must be s3://bucket/prefix, or file:///folder that the workers see under the same path"
_KNOWN: Final = re.compile(r"s3://[^/]+(/.*)?|file:///.+")
_READABLE: Final = 0o644  # By the worker, which is another user.


class ClaimStore:
    """Keeps bodies under one prefix.

    Args:
        prefix: `s3://bucket/prefix` (needs boto3; credentials, region and endpoint are boto3's own, such as
            `AWS_ENDPOINT_URL_S3`) or `file:///folder`.
        above_bytes: bodies of at most so many bytes travel in the message.

    Raises:
        CaptureError: no such prefix, or boto3 is missing.
    """

    def __init__(self, prefix: str, *, above_bytes: int = 1024 * 1024) -> None:
        if _KNOWN.fullmatch(prefix) is None:
            raise CaptureError(f"{prefix!r} is no place for large bodies: {_FORM}")
        self.above_bytes = above_bytes
        self._prefix = prefix.rstrip("/") + "/"
        self._s3 = _s3_client() if prefix.startswith(S3) else None

    async def deposit(self, body: bytes) -> Claim:
        """Put a body, off the event loop.

        Raises:
            HeimdallError: the store does not take it.
        """
        return await asyncio.to_thread(self._deposit, body)

    def _deposit(self, body: bytes) -> Claim:
        digest = hashlib.sha256(body).hexdigest()
        url = f"{self._prefix}{digest}"
        if self._s3 is not None:
            _put_object(self._s3, url, body)
        else:
            folder = Path(unquote(self._prefix.removeprefix(FILE)))
            _put_file(folder / digest, body)
            url = FILE + quote(str(folder / digest))
        return Claim(url=url, size=len(body), sha256=digest)


def _s3_client() -> Any:
    try:
        import boto3  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra
    except ImportError:
        raise CaptureError("s3:// needs boto3: pip install 'heimdall-worker[s3]'") from None
    return boto3.client("s3")


def _put_object(s3: Any, url: str, body: bytes) -> None:
    bucket, _, key = url.removeprefix(S3).partition("/")
    try:
        s3.put_object(Bucket=bucket, Key=key, Body=body)
    except Exception as error:  # boto3's errors have no base that its absence leaves us.
        raise HeimdallError(f"{url}: the store did not take it: {error}") from error


def _put_file(path: Path, body: bytes) -> None:
    """Write under another name, then rename: a worker never sees half a file."""
    try:
        descriptor, partial = tempfile.mkstemp(prefix=".", dir=path.parent)
    except OSError as error:
        raise HeimdallError(f"{path.parent}: {error.strerror}: the folder for large bodies must exist") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(body)
        Path(partial).chmod(_READABLE)
        Path(partial).rename(path)
    except OSError as error:
        with suppress(OSError):
            Path(partial).unlink()
        raise HeimdallError(f"{path}: {error.strerror}") from error
