"""A capture: what one or several receivers heard at one time, ready to be sent."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue, ValidationError

from client.errors import CaptureError
from client.iq import decode, encode, sample_bytes
from client.resampling import resample
from schemas.geo import Point, Receiver
from schemas.sigmf import EXTENSION_NAME, EXTENSION_VERSION, SampleRange, SigmfMetadata
from schemas.time import parse_datetime_ns

SIGMF_VERSION: Final = "1.2.0"
_DIMENSIONS: Final = (1, 2)  # (N,) or (R, N)
_EXTENSION: Final = {"name": EXTENSION_NAME, "version": EXTENSION_VERSION, "optional": False}


def receiver(
    name: str,
    *,
    latitude: float,
    longitude: float,
    altitude_m: float | None = None,
    time_error_ns: float | None = None,
    full_scale_dbm: float | None = None,
) -> Receiver:
    """Name a receiver and its antenna's place.

    Args:
        name: its id, as the model knows it.
        latitude: degrees north, WGS84.
        longitude: degrees east.
        altitude_m: metres above the ellipsoid.
        time_error_ns: known error of its clock, nanoseconds; positive = its time stamps are late.
        full_scale_dbm: power at the antenna that a full-scale tone stands for, dBm.

    Raises:
        CaptureError: not a place on Earth, or not a usable name.
    """
    place = (longitude, latitude) if altitude_m is None else (longitude, latitude, altitude_m)
    try:
        return Receiver(
            id=name,
            geolocation=Point(coordinates=place),
            time_error_ns=time_error_ns,
            full_scale_dbm=full_scale_dbm,
        )
    except ValidationError as error:
        raise CaptureError(
            f"receiver {name!r} at latitude {latitude:g}, longitude {longitude:g}: {_why(error)}"
        ) from None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Capture:
    """IQ with what a model needs to know about it.

    Attributes:
        samples: (R, N) or (N,) complex array, full scale = 1; or bytes that already lie as SigMF interleaves them.
        sample_rate: hertz, of every channel.
        center_frequency: hertz; None where unknown.
        receivers: one per channel; empty where the model needs none.
        capture_time: when the first sample was taken, RFC 3339 with up to nine fraction digits.
        datatype: SigMF datatype of the bytes; an array is sent as `cf32_le` or `ci16_le`.
        channels: R of bytes; default: one per receiver, or one.
        windows: a batch job: the samples to locate, counted per channel; empty = the whole capture is one.
        description: further fields of the SigMF global object.

    Raises:
        CaptureError: the parts do not fit together.
    """

    samples: NDArray[np.complexfloating[Any, Any]] | bytes
    sample_rate: float
    center_frequency: float | None = None
    receivers: Sequence[Receiver] = ()
    capture_time: str | None = None
    datatype: str = "cf32_le"
    channels: int | None = None
    windows: Sequence[SampleRange] = ()
    description: Mapping[str, JsonValue] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_samples(self.samples)
        _check_length(self)
        if self.receivers and len(self.receivers) != self.num_channels:
            raise CaptureError(f"{len(self.receivers)} receivers for {self.num_channels} channels: give one each")
        _check_time(self.capture_time)

    @property
    def num_channels(self) -> int:
        """R, the number of channels."""
        if isinstance(self.samples, bytes):
            return self.channels or len(self.receivers) or 1
        return 1 if self.samples.ndim == 1 else self.samples.shape[0]

    @property
    def length(self) -> int:
        """N, the number of samples of each channel."""
        if isinstance(self.samples, bytes):
            return len(self.samples) // (sample_bytes(self.datatype) * self.num_channels)
        return int(self.samples.shape[-1])

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.length / self.sample_rate

    def body(self) -> bytes:
        """The dataset as it is published, channels interleaved.

        Raises:
            CaptureError: an array with a datatype that arrays are not sent as.
        """
        return self.samples if isinstance(self.samples, bytes) else encode(self.array(), self.datatype)

    def array(self) -> NDArray[np.complex64]:
        """The samples as (R, N) complex64, full scale = 1.

        Raises:
            CaptureError: bytes of a real-valued datatype.
        """
        if isinstance(self.samples, bytes):
            return decode(self.samples, self.datatype, self.num_channels)
        return np.atleast_2d(self.samples).astype(np.complex64, copy=False)

    def metadata(self) -> dict[str, Any]:
        """SigMF metadata in the transport form of the wire.

        Raises:
            CaptureError: it does not validate.
        """
        document = {"global": _global(self), "captures": [_capture(self)], "annotations": []}
        try:
            SigmfMetadata.model_validate(document)
        except ValidationError as error:
            raise CaptureError(f"the metadata is not valid: {_why(error)}") from None
        return document

    def resampled(self, sample_rate: float) -> "Capture":
        """The same capture at another rate; what was bytes becomes `cf32_le`.

        Args:
            sample_rate: hertz.

        Raises:
            CaptureError: real-valued samples, or a rate out of reach.
        """
        samples = resample(self.array(), self.sample_rate, sample_rate)
        windows = [scaled(window, sample_rate / self.sample_rate, samples.shape[1]) for window in self.windows]
        datatype = "cf32_le" if isinstance(self.samples, bytes) else self.datatype
        return replace(
            self, samples=samples, sample_rate=sample_rate, datatype=datatype, channels=None, windows=windows
        )


def scaled(window: SampleRange, ratio: float, length: int) -> SampleRange:
    """A window at `ratio` times the rate, within the `length` samples there."""
    start = min(round(window.sample_start * ratio), length - 1)
    count = min(max(1, round(window.sample_count * ratio)), length - start)
    return SampleRange(sample_start=start, sample_count=count)


def _global(capture: Capture) -> dict[str, Any]:
    fields: dict[str, Any] = {
        **capture.description,
        "core:version": capture.description.get("core:version", SIGMF_VERSION),
        "core:datatype": capture.datatype,
        "core:sample_rate": capture.sample_rate,
        "core:num_channels": capture.num_channels,
    }
    if capture.receivers:
        fields["heimdall:receivers"] = [one.model_dump(mode="json", exclude_none=True) for one in capture.receivers]
    if capture.windows:
        fields["heimdall:samples"] = [window.model_dump() for window in capture.windows]
    if capture.receivers or capture.windows:
        fields["core:extensions"] = [*_other_extensions(capture.description), _EXTENSION]
    return fields


def _other_extensions(description: Mapping[str, JsonValue]) -> list[JsonValue]:
    declared = description.get("core:extensions")
    known = declared if isinstance(declared, list) else []
    return [one for one in known if not (isinstance(one, dict) and one.get("name") == EXTENSION_NAME)]


def _capture(capture: Capture) -> dict[str, Any]:
    fields: dict[str, Any] = {"core:sample_start": 0}
    if capture.center_frequency is not None:
        fields["core:frequency"] = capture.center_frequency
    if capture.capture_time is not None:
        fields["core:datetime"] = capture.capture_time
    return fields


def _check_samples(samples: NDArray[np.complexfloating[Any, Any]] | bytes) -> None:
    if isinstance(samples, bytes):
        return
    if not np.iscomplexobj(samples):
        raise CaptureError("the samples are real-valued; localisation needs complex IQ: pass i + 1j * q")
    if samples.ndim not in _DIMENSIONS:
        raise CaptureError(f"the samples have the shape {samples.shape}; it must be (receivers, N) or (N,)")


def _check_length(capture: Capture) -> None:
    if not 0 < capture.sample_rate < math.inf:
        raise CaptureError(f"the sample rate is above zero, not {capture.sample_rate:g}")
    if not capture.length:
        raise CaptureError("the capture holds no sample")
    if isinstance(capture.samples, bytes):
        frame = sample_bytes(capture.datatype) * capture.num_channels
        if len(capture.samples) % frame:
            raise CaptureError(
                f"{len(capture.samples)} bytes are no whole number of samples of {capture.num_channels} channel(s) "
                f"of {capture.datatype}, {frame} bytes each"
            )


def _check_time(capture_time: str | None) -> None:
    if capture_time is None:
        return
    try:
        parse_datetime_ns(capture_time)
    except ValueError as error:
        raise CaptureError(f"capture_time: {error}") from None


def _why(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = "/".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]
