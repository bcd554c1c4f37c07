"""How a file is to be read, and what was read: shared by all formats."""

import math
from dataclasses import dataclass
from typing import Final

from client.capture import Capture
from client.errors import CaptureError
from schemas.geo import Receiver

DEFAULT_BODY_BYTES: Final = 1024 * 1024
"""Length of a job where nobody says one: 18,000 samples of seven receivers as cf32."""


@dataclass(frozen=True, slots=True)
class Window:
    """Which part of a recording to locate.

    Attributes:
        start_s: seconds from its beginning.
        duration_s: seconds; None = as long as `DEFAULT_BODY_BYTES` allow.
        samples: per channel, instead of `duration_s`.
    """

    start_s: float = 0.0
    duration_s: float | None = None
    samples: int | None = None

    def select(self, length: int, rate: float, frame_bytes: int, name: str) -> tuple[int, int, str | None]:
        """Choose the samples.

        Args:
            length: samples per channel there are.
            rate: hertz.
            frame_bytes: bytes of one sample of all channels, as they are sent.
            name: of the recording, for messages.

        Returns:
            First sample, number of samples, and what to tell the user where the default cut the recording.

        Raises:
            CaptureError: outside the recording.
        """
        if not (math.isfinite(self.start_s) and math.isfinite(self.duration_s or 0.0)):
            raise CaptureError(f"{name}: --start and --duration are numbers of seconds")
        first = round(self.start_s * rate)
        left = length - first
        if first < 0 or left < 1:
            raise CaptureError(f"{name}: --start {self.start_s:g} s lies outside its {length / rate:g} s")
        wanted = self._wanted(rate)
        if wanted is None:
            return self._by_default(first, left, rate, frame_bytes, name)
        if not 0 < wanted <= left:
            raise CaptureError(
                f"{name}: {wanted} samples asked for, {left} are there from {self.start_s:g} s on ({left / rate:g} s)"
            )
        return first, wanted, None

    def _wanted(self, rate: float) -> int | None:
        if self.samples is not None:
            return self.samples
        return None if self.duration_s is None else round(self.duration_s * rate)

    def _by_default(
        self, first: int, left: int, rate: float, frame_bytes: int, name: str
    ) -> tuple[int, int, str | None]:
        most = max(1, DEFAULT_BODY_BYTES // frame_bytes)
        if left <= most:
            return first, left, None
        note = (
            f"{name}: locating {most} of {left} samples, {most / rate:.3g} of {left / rate:.3g} s "
            "(1 MiB of IQ); choose with --start, --duration or --samples"
        )
        return first, most, note


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What the user says about a file beside its name; None = what the file itself says, or the default.

    Attributes:
        sample_rate: hertz, of raw IQ.
        center_frequency: hertz, of raw IQ.
        datatype: SigMF datatype, of raw IQ.
        capture_time: of the first sample of raw IQ, RFC 3339.
        receivers: one per channel.
        channels: of raw IQ; default: one per receiver, or one.
        capture: which capture of a SigMF recording that was retuned or interrupted.
        resample: rate to bring the IQ to, hertz.
        window: which part.
    """

    sample_rate: float | None = None
    center_frequency: float | None = None
    datatype: str | None = None
    capture_time: str | None = None
    receivers: tuple[Receiver, ...] = ()
    channels: int | None = None
    capture: int = 0
    resample: float | None = None
    window: Window = Window()


@dataclass(frozen=True, slots=True)
class Loaded:
    """A file's capture, and what the user should know of how it was read."""

    name: str
    capture: Capture
    notes: tuple[str, ...] = ()
