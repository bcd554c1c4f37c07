"""SigMF Collections: one recording per receiver, brought to one job.

Receivers run on their own clocks: their streams start at different instants, at slightly different rates. They are
cut to their common span in integer nanoseconds (a float64 second since 1970 resolves 240 ns, which is 70 m of path)
and resampled to one rate from one instant on.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.capture import Capture
from client.errors import CaptureError
from client.reading import Loaded, ReadOptions
from client.sigmf_metadata import CollectionOnDisk, read_as
from client.sigmf_recording import META_SUFFIX, NANOSECONDS, SigmfRecording, open_recording
from schemas.geo import Receiver
from schemas.time import format_datetime_ns

_CF32_BYTES = 8


@dataclass(frozen=True, slots=True)
class Span:
    """An interval of time, Unix nanoseconds; the end is not part of it."""

    start_ns: int
    end_ns: int


def load_collection(path: Path, options: ReadOptions) -> Loaded:
    """Read a collection as one capture, a channel per stream.

    Raises:
        CaptureError: a file is missing or not valid, or the streams do not fit together.
    """
    streams = open_streams(path, options)
    span = common_span(streams)
    rate = options.resample or min(stream.sample_rate for stream in streams)
    length = (span.end_ns - span.start_ns) * rate / NANOSECONDS
    first, count, note = options.window.select(int(length), rate, _CF32_BYTES * len(streams), path.stem)
    start_ns = span.start_ns + round(first * NANOSECONDS / rate)
    capture = Capture(
        samples=np.stack([read_aligned(stream, start_ns, rate, count) for stream in streams]),
        sample_rate=rate,
        center_frequency=common_frequency(path, streams),
        receivers=options.receivers or stream_receivers(streams),
        capture_time=format_datetime_ns(start_ns),
    )
    brought = f"{path.stem}: {len(streams)} streams share {length / rate:.3f} s; brought to {rate:.6f} S/s"
    return Loaded(path.stem, capture, (brought, *filter(None, [note])))


def common_span(streams: list[SigmfRecording]) -> Span:
    """When all streams were recording.

    Raises:
        CaptureError: a stream has no time, or they do not overlap.
    """
    spans = [_span(stream) for stream in streams]
    common = Span(max(span.start_ns for span in spans), min(span.end_ns for span in spans))
    if common.end_ns <= common.start_ns:
        each = "; ".join(
            f"{stream.name} {format_datetime_ns(span.start_ns)} to {format_datetime_ns(span.end_ns)}"
            for stream, span in zip(streams, spans, strict=True)
        )
        raise CaptureError(f"the streams do not overlap in time: {each}")
    return common


def read_aligned(stream: SigmfRecording, start_ns: int, rate: float, count: int) -> NDArray[np.complex64]:
    """Read a stream from an instant on, at a rate.

    Args:
        stream: with one channel and a start time.
        start_ns: Unix nanoseconds of the first sample wanted; may lie between two of the stream's.
        rate: hertz.
        count: number of samples wanted.

    Returns:
        (count,) complex64.

    Raises:
        CaptureError: unreadable, or real-valued.
    """
    assert stream.start_ns is not None
    first = (start_ns - stream.start_ns) * stream.sample_rate / NANOSECONDS
    aligned: NDArray[np.complex64] = stream.read_at(first, rate, count)[0]
    return aligned


def open_streams(path: Path, options: ReadOptions) -> list[SigmfRecording]:
    """Open the recordings of a collection, in its order.

    Raises:
        CaptureError: one is missing or not valid, or has several channels.
    """
    names = [stream.name for stream in read_as(CollectionOnDisk, path).collection.streams]
    streams = [open_recording(path.with_name(name + META_SUFFIX), options) for name in names]
    for stream in streams:
        if stream.info.num_channels != 1:
            raise CaptureError(
                f"{path}: stream {stream.name} has {stream.info.num_channels} channels; a stream is one receiver"
            )
    return streams


def _span(stream: SigmfRecording) -> Span:
    if stream.start_ns is None:
        raise CaptureError(f"{stream.name}: core:datetime is missing; without it the streams cannot be aligned")
    return Span(stream.start_ns, stream.start_ns + math.floor(stream.length * NANOSECONDS / stream.sample_rate))


def common_frequency(path: Path, streams: list[SigmfRecording]) -> float | None:
    """Centre frequency of all streams, hertz.

    Raises:
        CaptureError: they differ.
    """
    frequencies = {stream.center_frequency for stream in streams}
    if len(frequencies) > 1:
        each = ", ".join(f"{stream.name} {stream.center_frequency}" for stream in streams)
        raise CaptureError(f"{path}: the streams have different core:frequency: {each}")
    return frequencies.pop()


def stream_receivers(streams: list[SigmfRecording]) -> tuple[Receiver, ...]:
    """A receiver per stream, named after it.

    Raises:
        CaptureError: one does not say its place.
    """
    for stream in streams:
        if not stream.receivers:
            raise CaptureError(f"{stream.name}: core:geolocation is missing: give every receiver's place with --rx")
    return tuple(stream.receivers[0].model_copy(update={"id": stream.name}) for stream in streams)
