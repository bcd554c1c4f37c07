"""IQ that lies in a file without a word about itself: raw bytes, and numpy arrays."""

import io
import sys
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from client.capture import Capture
from client.errors import CaptureError
from client.iq import sample_bytes
from client.reading import Loaded, ReadOptions
from client.sigmf_metadata import GlobalOnDisk
from client.sigmf_recording import SigmfRecording
from schemas.time import format_datetime_ns, parse_datetime_ns

STDIN: Final = "-"
BY_SUFFIX: Final = {
    ".cu8": "cu8",
    ".complex16u": "cu8",
    ".cs8": "ci8",
    ".complex16s": "ci8",
    ".cs16": "ci16_le",
    ".complex32s": "ci16_le",
    ".cf32": "cf32_le",
    ".fc32": "cf32_le",
    ".cfile": "cf32_le",
    ".complex": "cf32_le",
}
"""What the suffixes of rtl_sdr, rtl_433, GNU Radio and Universal Radio Hacker stand for."""


def load_raw(path: Path, options: ReadOptions) -> Loaded:
    """Read raw IQ of one or several interleaved channels; `-` is standard input.

    Raises:
        CaptureError: unreadable; rate or datatype not said and not to be guessed.
    """
    name = "standard input" if str(path) == STDIN else path.name
    rate = _rate(name, options)
    datatype, guess = _datatype(path, name, options)
    channels = options.channels or len(options.receivers) or 1
    frame = sample_bytes(datatype) * channels
    with _opened(path) as file:
        length = file.seek(0, io.SEEK_END) // frame
        first, count, note = options.window.select(length, rate, frame, name)
        file.seek(first * frame)
        body = file.read(count * frame)
    capture = Capture(
        samples=body,
        datatype=datatype,
        channels=channels,
        sample_rate=rate,
        center_frequency=options.center_frequency,
        receivers=options.receivers,
        capture_time=_time(options, first, rate),
    )
    return Loaded(name, capture, tuple(filter(None, [guess, note])))


def open_raw(path: Path, options: ReadOptions) -> SigmfRecording:
    """Take a raw file for a recording of one capture.

    Raises:
        CaptureError: rate or datatype not said and not to be guessed, or no whole sample in it.
    """
    rate = _rate(path.name, options)
    datatype, _ = _datatype(path, path.name, options)
    info = GlobalOnDisk.model_validate(
        {"core:datatype": datatype, "core:num_channels": options.channels or len(options.receivers) or 1}
    )
    length = path.stat().st_size // (sample_bytes(datatype) * info.num_channels)
    if not length:
        raise CaptureError(f"{path}: {path.stat().st_size} bytes are no sample of {info.num_channels} x {datatype}")
    time = _time(options, 0, rate)
    return SigmfRecording(
        name=path.stem,
        data=path,
        first_byte=0,
        length=length,
        sample_rate=rate,
        start_ns=None if time is None else parse_datetime_ns(time),
        center_frequency=options.center_frequency,
        receivers=(),
        info=info,
        captures=1,
    )


def open_npy(path: Path, options: ReadOptions) -> tuple[float, NDArray[np.complexfloating[Any, Any]]]:
    """Open a complex array without reading it.

    Returns:
        Its rate in hertz, and (R, N).

    Raises:
        CaptureError: unreadable, not complex, or another shape; rate not said.
    """
    rate = _rate(path.name, options)
    try:
        samples = np.atleast_2d(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError) as error:
        raise CaptureError(f"{path}: no numpy array: {error}") from None
    if not np.iscomplexobj(samples) or samples.ndim != 2:  # noqa: PLR2004 - (R, N)
        raise CaptureError(f"{path}: {samples.dtype} {samples.shape}; it must be complex, (N,) or (receivers, N)")
    return rate, samples


def load_npy(path: Path, options: ReadOptions) -> Loaded:
    """Read a complex array of shape (N,) or (R, N); raises what `open_npy` raises."""
    rate, samples = open_npy(path, options)
    first, count, note = options.window.select(samples.shape[1], rate, 8 * samples.shape[0], path.name)
    capture = Capture(
        samples=np.array(samples[:, first : first + count], dtype=np.complex64),
        sample_rate=rate,
        center_frequency=options.center_frequency,
        receivers=options.receivers,
        capture_time=_time(options, first, rate),
    )
    return Loaded(path.name, capture, tuple(filter(None, [note])))


def _rate(name: str, options: ReadOptions) -> float:
    if options.sample_rate is None:
        raise CaptureError(f"{name}: it does not say its sample rate: give --sample-rate, such as --sample-rate 2.4M")
    return options.sample_rate


def _time(options: ReadOptions, first: int, rate: float) -> str | None:
    if options.capture_time is None:
        return None
    try:
        start_ns = parse_datetime_ns(options.capture_time)
    except ValueError as error:
        raise CaptureError(f"--time: {error}") from None
    return format_datetime_ns(start_ns + round(first * 1e9 / rate))


def _datatype(path: Path, name: str, options: ReadOptions) -> tuple[str, str | None]:
    if options.datatype is not None:
        return options.datatype, None
    guess = BY_SUFFIX.get(path.suffix.lower())
    if guess is None:
        known = " ".join(BY_SUFFIX)
        raise CaptureError(
            f"{name}: its name does not say the datatype: give --datatype, such as --datatype cu8 (known by suffix: "
            f"{known} .npy .sigmf-meta .sigmf-collection)"
        )
    return guess, f"{name}: taken for {guess} from its suffix; if it is not, give --datatype"


def _opened(path: Path) -> BinaryIO:
    if str(path) == STDIN:
        return io.BytesIO(sys.stdin.buffer.read())
    try:
        return path.open("rb")
    except OSError as error:
        raise CaptureError(f"{path}: {error.strerror}") from None
