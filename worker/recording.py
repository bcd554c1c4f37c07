"""What a job carries: its dataset before it is decoded, and the captures to locate."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import TypeAdapter

from schemas.geo import Receiver
from schemas.sigmf import Datatype
from worker.dsp.datatypes import decode, full_scale_fraction

CLIPPED_FRACTION: Final = 0.01
_RECEIVERS: Final = TypeAdapter(tuple[Receiver, ...])
_JSON_DATATYPE: Final = Datatype.parse("cf32_le")  # What the numbers of a JSON job become.

Level = Literal["dbfs", "dbm"]


@dataclass(frozen=True, slots=True)
class IqCapture:
    """One sample to locate: what all receivers heard at once.

    Attributes:
        samples: (R, N) complex64, this capture's own; full scale = 1, or |x|² in milliwatts where it was read in dBm.
        sample_rate: hertz; None where a JSON job leaves it to the model.
        center_frequency_hz: None where unknown.
        receivers: one per row of `samples`; empty where the job names none.
        clipped: over 1 % of the samples are at full scale.
        level: what |x|² is relative to.
    """

    samples: NDArray[np.complex64]
    sample_rate: float | None
    center_frequency_hz: float | None
    receivers: tuple[Receiver, ...]
    clipped: bool
    level: Level = "dbfs"


@dataclass(frozen=True, slots=True)
class Recording:
    """A job's dataset before it is decoded.

    Attributes:
        datatype: of the body; None where it came as JSON and is decoded already.
        body: the dataset's bytes, or one (R, N) complex64 array per sample.
        ranges: (start, count) per sample to locate, counted per channel.
        batch: whether the job asked for several samples, so that the answer is a list.
    """

    datatype: Datatype | None
    body: bytes | tuple[NDArray[np.complex64], ...]
    channels: int
    ranges: tuple[tuple[int, int], ...]
    batch: bool
    sample_rate: float | None
    center_frequency_hz: float | None
    capture_time: str | None
    receivers: tuple[Receiver, ...]
    session_id: str | None = None
    cache_enabled: bool | None = None

    def describe(self) -> bytes:
        """Canonical bytes of all that, beside the body, decides the features."""
        datatype = self.datatype.name if self.datatype else "json"
        head = orjson.dumps([datatype, self.channels, self.sample_rate, self.center_frequency_hz])
        return head + _RECEIVERS.dump_json(self.receivers)


def decode_capture(recording: Recording, index: int, level: Level = "dbfs") -> IqCapture:
    """Decode one sample to locate; only its own bytes are touched.

    Args:
        recording: of the job.
        index: of the sample.
        level: `dbm` scales each receiver by its `full_scale_dbm`, so that |x|² is the power, in milliwatts, that a tone
            had at the antenna; `dbfs` leaves full scale at 1.

    Raises:
        MalformedIq, NonFiniteIq: see `worker.dsp.datatypes.decode`.
    """
    datatype = recording.datatype or _JSON_DATATYPE
    if isinstance(recording.body, bytes):
        start, count = recording.ranges[index]
        frame = datatype.sample_bytes * recording.channels
        body = memoryview(recording.body)[start * frame : (start + count) * frame]
        samples = decode(body, datatype, recording.channels)
    else:
        samples = recording.body[index].copy()
    clipped = full_scale_fraction(samples, datatype) > CLIPPED_FRACTION
    if level == "dbm":
        samples.view(np.float32)[...] *= _gains(recording.receivers)  # Four times faster than as complex numbers.
    return IqCapture(
        samples=samples,
        sample_rate=recording.sample_rate,
        center_frequency_hz=recording.center_frequency_hz,
        receivers=recording.receivers,
        clipped=clipped,
        level=level,
    )


def _gains(receivers: Sequence[Receiver]) -> NDArray[np.float32]:
    """Factor of each receiver, (R, 1); admission has seen to it that every one states its full scale."""
    gains = [10 ** (r.full_scale_dbm / 20) for r in receivers if r.full_scale_dbm is not None]
    return np.array(gains, np.float32)[:, np.newaxis]
