"""Recordings to publish from: opened once, read stretch by stretch, at any rate."""

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from client.capture import Capture, scaled
from client.errors import CaptureError
from client.files import ARCHIVE_SUFFIX, COLLECTION_SUFFIX
from client.raw_iq import BY_SUFFIX, STDIN, open_npy, open_raw
from client.reading import ReadOptions
from client.resampling import MARGIN, resample
from client.sigmf_collection import common_frequency, common_span, open_streams, read_aligned, stream_receivers
from client.sigmf_metadata import CollectionOnDisk, read_as
from client.sigmf_recording import DATA_SUFFIX, META_SUFFIX, SigmfRecording, open_recording
from client.windows import NANOSECONDS, Stretch
from schemas.geo import Receiver
from schemas.sigmf import SampleRange
from schemas.time import format_datetime_ns, parse_datetime_ns

KNOWN_SUFFIXES: Final = frozenset({META_SUFFIX, COLLECTION_SUFFIX, ".npy", *BY_SUFFIX})
"""What a folder is searched for."""
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_NAME: Final = 60


class Source(Protocol):
    """A recording of one or several receivers."""

    @property
    def name(self) -> str:
        """For people, and the session where none is given."""

    @property
    def files(self) -> tuple[Path, ...]:
        """What it is read from."""

    @property
    def sample_rate(self) -> float:
        """Hertz, as it is published where nobody asks for another."""

    @property
    def duration_s(self) -> float:
        """Length in seconds."""

    def read(self, stretch: Stretch, rate: float | None) -> Capture:
        """Read a stretch.

        Args:
            stretch: within the recording.
            rate: hertz; None = its own.

        Raises:
            CaptureError: unreadable, real-valued, or a rate out of reach.
        """


@dataclass(frozen=True, slots=True)
class RecordingSource:
    """One capture of a SigMF recording, or raw IQ taken for one."""

    recording: SigmfRecording
    options: ReadOptions
    files: tuple[Path, ...]

    @property
    def name(self) -> str:
        """Of the recording; with the capture's number where there are several."""
        several = self.recording.captures > 1
        return f"{self.recording.name}.{self.options.capture}" if several else self.recording.name

    @property
    def sample_rate(self) -> float:
        """Hertz."""
        return self.recording.sample_rate

    @property
    def duration_s(self) -> float:
        """Seconds."""
        return self.recording.length / self.recording.sample_rate

    def read(self, stretch: Stretch, rate: float | None) -> Capture:
        """Read a stretch; at its own rate the bytes are the file's."""
        recording = self.recording
        first = stretch.start_ns * recording.sample_rate / NANOSECONDS
        if rate is None or rate == recording.sample_rate:
            begin, count = _whole(first, stretch, recording.sample_rate, recording.length)
            return self._capture(recording.read(begin, count), recording.sample_rate, begin, stretch)
        duration_s = stretch.duration_s or (recording.length - first) / recording.sample_rate
        samples = recording.read_at(first, rate, max(1, round(duration_s * rate)))
        return self._capture(samples, rate, first, stretch)

    def _capture(self, samples: bytes | NDArray[np.complex64], rate: float, first: float, stretch: Stretch) -> Capture:
        recording, info = self.recording, self.recording.info
        as_it_stands = isinstance(samples, bytes)
        start_ns = recording.start_ns
        since_ns = round(first * NANOSECONDS / recording.sample_rate)
        return Capture(
            samples=samples,
            datatype=info.datatype if as_it_stands else "cf32_le",
            channels=info.num_channels if as_it_stands else None,
            sample_rate=rate,
            center_frequency=recording.center_frequency,
            receivers=self.options.receivers or recording.receivers,
            capture_time=None if start_ns is None else format_datetime_ns(start_ns + since_ns),
            windows=self._windows(rate) if stretch.duration_s is None else (),
            description=info.model_extra or {},
        )

    def _windows(self, rate: float) -> Sequence[SampleRange]:
        """The samples that the recording itself names, at another rate."""
        recording, own = self.recording, self.recording.info.samples or ()
        if rate == recording.sample_rate:
            return own
        ratio = rate / recording.sample_rate
        length = max(1, round(recording.length * ratio))
        return [scaled(one, ratio, length) for one in own]


@dataclass(frozen=True, slots=True)
class CollectionSource:
    """A SigMF collection: a stream per receiver, aligned and brought to one rate as it is read."""

    name: str
    streams: list[SigmfRecording]
    start_ns: int
    duration_s: float
    center_frequency: float | None
    receivers: tuple[Receiver, ...]
    files: tuple[Path, ...]

    @property
    def sample_rate(self) -> float:
        """The lowest of the streams', so that none is stretched."""
        return min(stream.sample_rate for stream in self.streams)

    def read(self, stretch: Stretch, rate: float | None) -> Capture:
        """Read a stretch of every stream from one instant on."""
        rate = rate or self.sample_rate
        duration_s = stretch.duration_s or self.duration_s - stretch.start_ns / NANOSECONDS
        count, start_ns = max(1, round(duration_s * rate)), self.start_ns + stretch.start_ns
        return Capture(
            samples=np.stack([read_aligned(stream, start_ns, rate, count) for stream in self.streams]),
            sample_rate=rate,
            center_frequency=self.center_frequency,
            receivers=self.receivers,
            capture_time=format_datetime_ns(start_ns),
        )


@dataclass(frozen=True, slots=True, eq=False)
class ArraySource:
    """A `.npy` array; what is not read stays on the disk."""

    name: str
    samples: NDArray[np.complexfloating[Any, Any]]
    sample_rate: float
    options: ReadOptions
    files: tuple[Path, ...]

    @property
    def duration_s(self) -> float:
        """Seconds."""
        return float(self.samples.shape[1] / self.sample_rate)

    def read(self, stretch: Stretch, rate: float | None) -> Capture:
        """Read a stretch."""
        first = stretch.start_ns * self.sample_rate / NANOSECONDS
        begin, count = _whole(first, stretch, self.sample_rate, self.samples.shape[1])
        if rate is None or rate == self.sample_rate:
            samples = np.array(self.samples[:, begin : begin + count], dtype=np.complex64)
            return self._capture(samples, self.sample_rate, begin)
        # The filters look at neighbours: read those too, so that a cut has no edge but the recording's own.
        margin = 2 * MARGIN * max(1, round(self.sample_rate / rate))
        before = min(begin, margin)
        near = np.array(self.samples[:, begin - before : begin + count + margin], dtype=np.complex64)
        wanted = max(1, round(count * rate / self.sample_rate))
        return self._capture(resample(near, self.sample_rate, rate, first=before, count=wanted), rate, begin)

    def _capture(self, samples: NDArray[np.complex64], rate: float, begin: int) -> Capture:
        time = self.options.capture_time
        start_ns = None if time is None else parse_datetime_ns(time) + round(begin * NANOSECONDS / self.sample_rate)
        return Capture(
            samples=samples,
            sample_rate=rate,
            center_frequency=self.options.center_frequency,
            receivers=self.options.receivers,
            capture_time=None if start_ns is None else format_datetime_ns(start_ns),
        )


def open_sources(path: Path, options: ReadOptions) -> list[Source]:
    """Open a file; a SigMF recording that was retuned or interrupted is a source per capture.

    Raises:
        CaptureError: what is wrong with it, where, and what would be right.
    """
    if str(path) == STDIN:
        raise CaptureError("standard input has no end to wait for: write it to a file, or use heimdall locate -")
    if not path.is_file():
        raise CaptureError(f"{path}: no such file or folder")
    suffix = path.suffix.lower()
    if suffix in (META_SUFFIX, DATA_SUFFIX):
        return list(_recordings(path, options))
    if suffix == COLLECTION_SUFFIX:
        return [_collection(path, options)]
    if suffix == ARCHIVE_SUFFIX:
        raise CaptureError(f"{path}: a SigMF archive: unpack it first (tar xf {path.name})")
    if suffix == ".npy":
        rate, samples = open_npy(path, options)
        return [ArraySource(path.stem, samples, rate, options, (path,))]
    return [RecordingSource(open_raw(path, options), options, (path,))]


def files_in(folder: Path, *, unreadable: Collection[Path] = ()) -> list[Path]:
    """The recordings in a folder, by name; a recording that is a collection's stream is part of the collection.

    Args:
        folder: to look into.
        unreadable: collections that name no streams where they are not valid.

    Raises:
        CaptureError: the folder cannot be read, or one of its collections is not valid.
    """
    try:
        found = sorted(file for file in folder.iterdir() if file.suffix.lower() in KNOWN_SUFFIXES and file.is_file())
    except OSError as error:
        raise CaptureError(f"{folder}: {error.strerror}") from None
    recordings = {file for file in found if file.suffix.lower() == META_SUFFIX}
    collections = [file for file in found if recordings and file.suffix.lower() == COLLECTION_SUFFIX]
    streams = {name for file in collections for name in _streams_of(file, unreadable)}
    return [file for file in found if file not in recordings or file.stem not in streams]


def identity(files: Iterable[Path]) -> str:
    """Digest of which files these are, as they are now: path, size and time of the last change.

    Raises:
        CaptureError: one is gone.
    """
    digest = hashlib.sha256()
    for file in files:
        try:
            state = file.stat()
        except OSError as error:
            raise CaptureError(f"{file}: {error.strerror}") from None
        digest.update(f"{file.resolve()}\0{state.st_size}\0{state.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def slug(name: str) -> str:
    """A name as job ids and sessions may hold it."""
    return _NOT_IN_NAMES.sub("-", name).strip("-")[:_LONGEST_NAME] or "recording"


def _streams_of(collection: Path, unreadable: Collection[Path]) -> set[str]:
    try:
        return {stream.name for stream in read_as(CollectionOnDisk, collection).collection.streams}
    except CaptureError:
        if collection in unreadable:
            return set()
        raise


def _recordings(path: Path, options: ReadOptions) -> Iterator[Source]:
    captures, index = 1, 0
    while index < captures:
        chosen = replace(options, capture=index)
        recording = open_recording(path, chosen)
        captures, index = recording.captures, index + 1
        yield RecordingSource(recording, chosen, (path.with_suffix(META_SUFFIX), recording.data))


def _collection(path: Path, options: ReadOptions) -> CollectionSource:
    streams = open_streams(path, options)
    span = common_span(streams)
    metas = [path.with_name(stream.name + META_SUFFIX) for stream in streams]
    return CollectionSource(
        name=path.stem,
        streams=streams,
        start_ns=span.start_ns,
        duration_s=(span.end_ns - span.start_ns) / NANOSECONDS,
        center_frequency=common_frequency(path, streams),
        receivers=options.receivers or stream_receivers(streams),
        files=(path, *metas, *(stream.data for stream in streams)),
    )


def _whole(first: float, stretch: Stretch, rate: float, length: int) -> tuple[int, int]:
    """First sample and number of samples of a stretch at the recording's own rate."""
    begin = round(first)
    if stretch.duration_s is None:
        return begin, length - begin
    count = min(max(1, round(stretch.duration_s * rate)), length)
    return min(begin, length - count), count
