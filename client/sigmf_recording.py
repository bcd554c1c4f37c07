"""SigMF recordings on disk, brought to their transport form.

A file may carry bytes that are no samples (`core:header_bytes`, `core:trailing_bytes`), name its dataset, count its
samples from `core:offset` on, and hold several captures. A job holds one capture's samples and nothing else.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from client.capture import Capture
from client.errors import CaptureError
from client.iq import decode, sample_bytes
from client.reading import Loaded, ReadOptions, Window
from client.resampling import MARGIN, resample
from client.sigmf_metadata import CaptureOnDisk, GlobalOnDisk, MetadataOnDisk, read_as
from schemas.geo import Receiver
from schemas.time import format_datetime_ns, parse_datetime_ns

META_SUFFIX: Final = ".sigmf-meta"
DATA_SUFFIX: Final = ".sigmf-data"
NANOSECONDS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class SigmfRecording:
    """One capture of a recording on disk; its samples are still there.

    Attributes:
        name: of the recording, without suffix.
        data: file that holds the samples.
        first_byte: of the capture within it.
        length: samples per channel of the capture.
        sample_rate: hertz.
        start_ns: Unix time of the first sample, nanoseconds; None where not recorded.
        center_frequency: hertz.
        receivers: as stated; empty where nothing is.
        info: the global object.
        captures: how many captures the recording has.
    """

    name: str
    data: Path
    first_byte: int
    length: int
    sample_rate: float
    start_ns: int | None
    center_frequency: float | None
    receivers: tuple[Receiver, ...]
    info: GlobalOnDisk
    captures: int

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of all channels."""
        return sample_bytes(self.info.datatype) * self.info.num_channels

    def read(self, first: int, count: int) -> bytes:
        """Read `count` samples of all channels from `first` on.

        Raises:
            CaptureError: the file cannot be read, or has become shorter.
        """
        wanted = count * self.frame_bytes
        try:
            with self.data.open("rb") as file:
                file.seek(self.first_byte + first * self.frame_bytes)
                body = file.read(wanted)
        except OSError as error:
            raise CaptureError(f"{self.data}: {error.strerror}") from None
        if len(body) != wanted:
            raise CaptureError(f"{self.data}: ends early, after {len(body)} of {wanted} bytes")
        return body

    def read_at(self, first: float, rate: float, count: int) -> NDArray[np.complex64]:
        """Read at another rate, from any fraction of a sample on.

        Args:
            first: where the first sample wanted lies, in the recording's own samples.
            rate: hertz.
            count: number of samples wanted.

        Returns:
            (R, count) complex64.

        Raises:
            CaptureError: unreadable, real-valued, or a rate out of reach.
        """
        # The filters look at neighbours: read those too, so that a cut has no edge but the recording's own.
        margin = 2 * MARGIN * math.ceil(max(1.0, self.sample_rate / rate)) + 1
        begin = max(0, math.floor(first) - margin)
        end = min(self.length, math.ceil(first + count * self.sample_rate / rate) + margin)
        samples = decode(self.read(begin, end - begin), self.info.datatype, self.info.num_channels)
        return resample(samples, self.sample_rate, rate, first=first - begin, count=count)

    def time_at(self, sample: int) -> str | None:
        """RFC 3339 time of a sample; None where the recording has no time."""
        if self.start_ns is None:
            return None
        return format_datetime_ns(self.start_ns + round(sample * NANOSECONDS / self.sample_rate))


def load_recording(path: Path, options: ReadOptions) -> Loaded:
    """Read a recording, given by either of its files.

    Raises:
        CaptureError: a file is missing or not valid; the message names file and field.
    """
    recording = open_recording(path, options)
    info = recording.info
    first, count, note = _select(recording, options.window)
    capture = Capture(
        samples=recording.read(first, count),
        datatype=info.datatype,
        channels=info.num_channels,
        sample_rate=recording.sample_rate,
        center_frequency=recording.center_frequency,
        receivers=options.receivers or recording.receivers,
        capture_time=recording.time_at(first),
        windows=info.samples or () if count == recording.length else (),
        description=info.model_extra or {},
    )
    return Loaded(recording.name, capture, (*_capture_note(recording, options.capture), *filter(None, [note])))


def open_recording(path: Path, options: ReadOptions) -> SigmfRecording:
    """Read a recording's metadata and find its samples.

    Raises:
        CaptureError: see `load_recording`.
    """
    meta = path.with_suffix(META_SUFFIX)
    if not meta.is_file():
        raise CaptureError(f"{meta}: no such file; a SigMF recording is {META_SUFFIX} and {DATA_SUFFIX} side by side")
    document = read_as(MetadataOnDisk, meta)
    captures = document.captures or [CaptureOnDisk.model_validate({})]
    if not 0 <= options.capture < len(captures):
        raise CaptureError(f"{meta}: --capture {options.capture}: it has captures 0 to {len(captures) - 1}")
    capture, info = captures[options.capture], document.global_
    data = _dataset(meta, info)
    first_byte, length = _extent(data, info, captures, options.capture)
    return SigmfRecording(
        name=meta.stem,
        data=data,
        first_byte=first_byte,
        length=length,
        sample_rate=_either(meta, "core:sample_rate", info.sample_rate, "--sample-rate", options.sample_rate),
        start_ns=None if capture.datetime is None else parse_datetime_ns(capture.datetime),
        center_frequency=capture.frequency if capture.frequency is not None else options.center_frequency,
        receivers=_receivers(meta.stem, info, capture),
        info=info,
        captures=len(captures),
    )


def _select(recording: SigmfRecording, window: Window) -> tuple[int, int, str | None]:
    # A recording that names its own samples is a batch job as it stands.
    if recording.info.samples and window == Window():
        return 0, recording.length, None
    return window.select(recording.length, recording.sample_rate, recording.frame_bytes, recording.name)


def _capture_note(recording: SigmfRecording, chosen: int) -> tuple[str, ...]:
    if recording.captures == 1:
        return ()
    last = recording.captures - 1
    return (f"{recording.name}: capture {chosen} of 0 to {last} (retuned or interrupted); choose with --capture",)


def _dataset(meta: Path, info: GlobalOnDisk) -> Path:
    if info.metadata_only:
        raise CaptureError(f"{meta}: core:metadata_only: this recording was published without its samples")
    data = meta.with_name(info.dataset) if info.dataset else meta.with_suffix(DATA_SUFFIX)
    if not data.is_file():
        raise CaptureError(f"{data}: no such file; {meta.name} says the samples are there")
    return data


def _extent(data: Path, info: GlobalOnDisk, captures: list[CaptureOnDisk], chosen: int) -> tuple[int, int]:
    """First byte and number of samples of a capture."""
    frame = sample_bytes(info.datatype) * info.num_channels
    headers = sum(capture.header_bytes for capture in captures)
    total = (data.stat().st_size - headers - info.trailing_bytes) // frame
    starts = [capture.sample_start - info.offset for capture in captures]
    end = starts[chosen + 1] if chosen + 1 < len(starts) else total
    if not 0 <= starts[chosen] < end <= total:
        raise CaptureError(
            f"{data}: capture {chosen} is samples {starts[chosen]} to {end}, but the file holds {total} of "
            f"{info.num_channels} channel(s) of {info.datatype}"
        )
    before = sum(capture.header_bytes for capture in captures[: chosen + 1])
    return before + starts[chosen] * frame, end - starts[chosen]


def _either(meta: Path, field: str, said: float | None, option: str, given: float | None) -> float:
    if given is None:
        if said is None:
            raise CaptureError(f"{meta}: {field} is missing: give {option}")
        return said
    if said not in (None, given):
        raise CaptureError(f"{meta}: {field} is {said:g}: leave {option} {given:g} out")
    return given


def _receivers(name: str, info: GlobalOnDisk, capture: CaptureOnDisk) -> tuple[Receiver, ...]:
    if info.receivers is not None:
        return tuple(info.receivers)
    place = capture.geolocation or info.geolocation
    if place is None or info.num_channels != 1:
        return ()
    return (Receiver(id=name[:64], geolocation=place),)
