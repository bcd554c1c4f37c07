"""Reading what a claim refers to, from where the operator allows and from nowhere else. Blocking: for a thread.

A reference is text from outside. It is compared with the allow-list first; then a file is opened step by step from the
allowed folder down, refusing symbolic links, and an object is asked for by its exact key.
"""

import errno
import hashlib
import os
import re
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final, Protocol
from urllib.parse import unquote

from schemas.claim import Claim
from worker.errors import ClaimMismatch, ClaimMissing, ClaimRefused, ClaimUnavailable

CHUNK_BYTES: Final = 256 * 1024
CONNECT_TIMEOUT_S: Final = 5.0
READ_TIMEOUT_S: Final = 5.0
ATTEMPTS: Final = 3

_S3: Final = "s3://"
_FILE: Final = "file://"
_SOURCE: Final = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](?:/[^\x00-\x1f\x7f]*)?|file:///[^\x00-\x1f\x7f]+")
_NO_SEGMENTS: Final = ("", ".", "..")
_NOT_THERE: Final = frozenset({"NoSuchKey", "NoSuchBucket", "AccessDenied", "403", "404"})
"""S3 answers 403 for a missing key to whoever may not list the bucket."""

Chunks = Iterator[bytes]


class Store(Protocol):
    """A place that claims may refer to."""

    def opened(self, url: str) -> AbstractContextManager[tuple[int, Chunks]]:
        """Size of the object, and its bytes in pieces.

        Raises:
            ClaimRefused, ClaimMissing, ClaimUnavailable: why not.
        """


def source_prefix(text: str) -> str:
    """An entry of the allow-list as a prefix that ends with a slash, so that `iq` does not allow `iq-secret`.

    Raises:
        ValueError: neither `s3://bucket[/prefix]` nor `file:///folder`.
    """
    if _SOURCE.fullmatch(text) is None or any(part in _NO_SEGMENTS[1:] for part in text.split("/")):
        raise ValueError(f"{text[:100]!r} must be s3://bucket, s3://bucket/prefix or file:///folder")
    return text.rstrip("/") + "/"


@dataclass(frozen=True, slots=True)
class ClaimStores:
    """The allow-list.

    Attributes:
        prefixes: as `source_prefix` gives them, without percent-encoding.
        stores: by scheme.
    """

    prefixes: tuple[str, ...]
    stores: Mapping[str, Store]

    @classmethod
    def of(cls, sources: Sequence[str]) -> "ClaimStores":
        """The stores that an allow-list needs."""
        prefixes = tuple(_plain(source_prefix(source)) for source in sources)
        folders = [prefix.removeprefix(_FILE) for prefix in prefixes if prefix.startswith(_FILE)]
        return cls(prefixes, {_FILE: FileStore(folders), _S3: S3Store()})

    def check(self, url: str) -> Store:
        """The store that a reference leads to; nothing is asked yet.

        Raises:
            ClaimRefused: not allowed, or not written plainly.
        """
        plain = _plain(url)
        scheme = _S3 if plain.startswith(_S3) else _FILE
        parts = plain.removeprefix(scheme).removeprefix("/").split("/")
        if "\0" in plain or any(part in _NO_SEGMENTS for part in parts):
            raise ClaimRefused(f"{url:.200}: a reference has no empty, `.` or `..` segments")
        if not plain.startswith(self.prefixes):
            raise ClaimRefused(f"{url:.200}: this worker's operator does not allow references to there")
        return self.stores[scheme]

    def read(self, claim: Claim, ends: float) -> bytes:
        """Read a claim's dataset.

        Args:
            claim: whose size was checked against the limit.
            ends: monotonic seconds after which to give up.

        Raises:
            ClaimRefused, ClaimMissing, ClaimMismatch, ClaimUnavailable: why not.
        """
        with self.check(claim.url).opened(claim.url) as (size, chunks):
            if size != claim.size:
                raise ClaimMismatch(f"{claim.url} has {size} bytes, the claim says {claim.size}")
            return _verified(claim, chunks, ends)


def _plain(url: str) -> str:
    """A reference as its store reads it: a key is what it is, a path is percent-decoded."""
    return _FILE + unquote(url.removeprefix(_FILE)) if url.startswith(_FILE) else url


def _verified(claim: Claim, chunks: Chunks, ends: float) -> bytes:
    digest, body = hashlib.sha256(), bytearray()
    for chunk in chunks:
        if time.monotonic() > ends:
            raise ClaimUnavailable(f"{claim.url} came too slowly: {len(body)} of {claim.size} bytes in time")
        digest.update(chunk)
        body += chunk
        if len(body) > claim.size:
            break
    if len(body) != claim.size:
        raise ClaimMismatch(f"{claim.url} changed while it was read: it had {claim.size} bytes before")
    if digest.hexdigest() != claim.sha256:
        raise ClaimMismatch(f"{claim.url} has the SHA-256 {digest.hexdigest()}, the claim says {claim.sha256}")
    return bytes(body)


class FileStore:
    """Files under folders of the operator's.

    Args:
        folders: absolute, with a slash at the end; these may be symbolic links themselves.
    """

    def __init__(self, folders: Sequence[str]) -> None:
        self._folders = tuple(folders)

    @contextmanager
    def opened(self, url: str) -> Iterator[tuple[int, Chunks]]:
        """See `Store`."""
        path = _plain(url).removeprefix(_FILE)
        folder = max((one for one in self._folders if path.startswith(one)), key=len)
        try:
            descriptor = _open_below(folder, path.removeprefix(folder).split("/"))
        except OSError as error:
            raise _file_error(url, error) from None
        try:
            state = os.fstat(descriptor)
            if not stat.S_ISREG(state.st_mode):
                raise ClaimRefused(f"{url} is no ordinary file")
            yield state.st_size, _chunks(url, descriptor)
        finally:
            os.close(descriptor)


def _open_below(folder: str, parts: Sequence[str]) -> int:
    """Open a file by its parts from a folder down; none of them may be a symbolic link, so none leads out of it."""
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    for index, part in enumerate(parts):
        # A pipe without a writer would block the open for ever.
        kind = os.O_DIRECTORY if index + 1 < len(parts) else os.O_NONBLOCK
        try:
            below = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | kind, dir_fd=at)
        finally:
            os.close(at)
        at = below
    return at


def _chunks(url: str, descriptor: int) -> Chunks:
    try:
        while chunk := os.read(descriptor, CHUNK_BYTES):
            yield chunk
    except OSError as error:
        raise _file_error(url, error) from None


def _file_error(url: str, error: OSError) -> Exception:
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return ClaimRefused(f"{url} leads through a symbolic link, or through a file that is no folder")
    if error.errno in (errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG):
        return ClaimMissing(f"{url} is not there, or this worker may not read it")
    return ClaimUnavailable(f"{url}: {error.strerror}")


class S3Store:
    """Objects of S3. Credentials, region and endpoint are boto3's own, from the worker's environment."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._client: Any = None

    @contextmanager
    def opened(self, url: str) -> Iterator[tuple[int, Chunks]]:
        """See `Store`."""
        bucket, _, key = url.removeprefix(_S3).partition("/")
        try:
            answer = self._connected().get_object(Bucket=bucket, Key=key)
        except Exception as error:
            raise _s3_error(url, error) from None
        with closing(answer["Body"]) as body:
            yield answer["ContentLength"], _pieces(url, body)

    def _connected(self) -> Any:
        with self._lock:  # Making a client reads files of descriptions; it is done once.
            if self._client is None:
                self._client = _s3_client()
            return self._client


def _s3_client() -> Any:
    import boto3  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra; the settings have checked that it is here
    from botocore.config import Config  # type: ignore[import-untyped]  # noqa: PLC0415

    retries = {"total_max_attempts": ATTEMPTS, "mode": "standard"}
    return boto3.session.Session().client(
        "s3", config=Config(connect_timeout=CONNECT_TIMEOUT_S, read_timeout=READ_TIMEOUT_S, retries=retries)
    )


def _pieces(url: str, body: Any) -> Chunks:
    try:
        yield from body.iter_chunks(CHUNK_BYTES)
    except Exception as error:
        raise _s3_error(url, error) from None


def _s3_error(url: str, error: Exception) -> Exception:
    response = getattr(error, "response", None)
    code = str(response["Error"].get("Code", "")) if isinstance(response, dict) and "Error" in response else ""
    if code in _NOT_THERE:
        return ClaimMissing(f"{url} is not there, or this worker may not read it ({code})")
    return ClaimUnavailable(f"{url}: the store does not give it: {type(error).__name__} {error}"[:500])
