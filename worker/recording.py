"""What a job carries: the recording's metadata, its bytes, and the captures to locate once they are decoded."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any, Literal, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from schemas.geo import Receiver
from schemas.job import MAX_JSON_BODY_BYTES, MAX_SIGMF_HEADER_BYTES, JsonJob
from schemas.problems import ProblemError
from schemas.sigmf import (
    MAX_CHANNELS,
    MAX_SAMPLES_PER_JOB,
    Datatype,
    DatatypeError,
    SampleRange,
    SigmfGlobal,
    SigmfMetadata,
)
from worker.dsp.datatypes import decode, full_scale_fraction
from worker.errors import MalformedIq, MalformedMetadata, NonFiniteIq, TooLarge, UnsupportedDatatype

MAX_REPORTED_ERRORS = 5
MAX_ERROR_TEXT = 300
MAX_KNOWN_BYTES = 16 * 1024
"""Of a global object that is kept once it was validated: a hundred receivers and more."""
CLIPPED_FRACTION = 0.01
_PAIR = 2  # [i, q]
_RECEIVERS = TypeAdapter(tuple[Receiver, ...])
_JSON_DATATYPE = Datatype.parse("cf32_le")  # what the numbers of a JSON job become

Model = TypeVar("Model", SigmfMetadata, JsonJob)
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


def read_sigmf(header: str | bytes | None, body: bytes) -> Recording:
    """Read the metadata of a SigMF Recording and check the body against it; the IQ itself is not touched.

    Raises:
        TooLarge: metadata over 64 KiB, or more samples to locate than a job may hold.
        MalformedMetadata: not valid; each particular names its field.
        UnsupportedDatatype: real-valued or unknown.
        MalformedIq: the body is no whole number of samples, or a range lies outside it.
    """
    if header is None:
        raise MalformedMetadata("the header `sigmf` is missing: it holds the recording's metadata as JSON text")
    if len(header) > MAX_SIGMF_HEADER_BYTES:
        raise TooLarge(f"the header `sigmf` has {len(header)} bytes; the limit is {MAX_SIGMF_HEADER_BYTES}")
    metadata = _validate(SigmfMetadata, _with_known_global(_parse_json(header, "the header `sigmf`")))
    info = metadata.global_
    try:
        datatype = Datatype.parse(info.datatype)
    except DatatypeError as error:
        raise UnsupportedDatatype(
            str(error), [ProblemError(detail=str(error), pointer="global/core:datatype")]
        ) from None
    length = _length(len(body), datatype, info.num_channels)
    return Recording(
        datatype=datatype,
        body=body,
        channels=info.num_channels,
        ranges=_ranges(info.samples, length),
        batch=info.samples is not None,
        sample_rate=info.sample_rate,
        center_frequency_hz=metadata.center_frequency_hz,
        capture_time=metadata.capture_time,
        receivers=tuple(info.receivers or ()),
    )


def read_json(body: bytes) -> Recording:
    """Read a JSON job, IQ included.

    Raises:
        TooLarge: over 1 MiB, or more samples to locate than a job may hold.
        MalformedMetadata: not JSON, or fields that do not validate.
        MalformedIq: `iq_data` or `iq_samples` is no rectangular array of [i, q] pairs.
        NonFiniteIq: a number is too large to be a sample.
    """
    if len(body) > MAX_JSON_BODY_BYTES:
        raise TooLarge(
            f"a JSON body has at most {MAX_JSON_BODY_BYTES} bytes, this one has {len(body)}: "
            "publish a SigMF Recording (application/octet-stream) instead"
        )
    job = _validate(JsonJob, _parse_json(body, "the body"))
    if (job.iq_data is None) == (job.iq_samples is None):
        raise MalformedMetadata("a JSON job has exactly one of `iq_data` and `iq_samples`")
    batch = job.iq_samples is not None
    lists = job.iq_samples if job.iq_samples is not None else [job.iq_data]
    if len(lists) > MAX_SAMPLES_PER_JOB:
        raise TooLarge(f"a job locates at most {MAX_SAMPLES_PER_JOB} samples, this one asks for {len(lists)}")
    samples = tuple(_complex_array(iq, f"iq_samples/{i}" if batch else "iq_data") for i, iq in enumerate(lists))
    channels = {len(sample) for sample in samples}
    if len(channels) != 1:
        raise MalformedIq(f"iq_samples differ in their number of receivers: {sorted(channels)}")
    _check_receivers(job.receivers, channels.pop())
    return Recording(
        datatype=None,
        body=samples,
        channels=len(samples[0]),
        ranges=tuple((0, sample.shape[1]) for sample in samples),
        batch=batch,
        sample_rate=job.sample_rate,
        center_frequency_hz=job.center_frequency,
        capture_time=None,
        receivers=tuple(job.receivers or ()),
        session_id=job.session_id,
        cache_enabled=job.cache_enabled,
    )


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


def _parse_json(text: str | bytes, what: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise MalformedMetadata(f"{what} is no JSON: {error}") from None


def _with_known_global(document: Any) -> Any:
    """The metadata with its global object validated already: a source's stays the same from job to job.

    One that is not valid is left as it is, so that the validation of the whole says where.
    """
    try:
        text = orjson.dumps(document["global"])
        return document | {"global": _known_global(text)} if len(text) <= MAX_KNOWN_BYTES else document
    except (TypeError, KeyError, ValidationError):
        return document


@lru_cache(maxsize=64)
def _known_global(text: bytes) -> SigmfGlobal:
    return SigmfGlobal.model_validate(orjson.loads(text))


def _validate(model: type[Model], document: Any) -> Model:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        found = [
            ProblemError(
                detail=particular["msg"][:MAX_ERROR_TEXT],
                pointer="/".join(str(part) for part in particular["loc"])[:MAX_ERROR_TEXT] or None,
            )
            for particular in error.errors(include_url=False, include_input=False)[:MAX_REPORTED_ERRORS]
        ]
        detail = "; ".join(f"{e.pointer}: {e.detail}" if e.pointer else e.detail for e in found)
        raise MalformedMetadata(detail, found) from None


def _length(n_bytes: int, datatype: Datatype, channels: int) -> int:
    frame = datatype.sample_bytes * channels
    length, rest = divmod(n_bytes, frame)
    if rest or not length:
        raise MalformedIq(
            f"the body has {n_bytes} bytes, which is no whole number of samples of {channels} channel(s) of "
            f"{datatype.name}: {frame} bytes each"
        )
    return length


def _ranges(samples: Sequence[SampleRange] | None, length: int) -> tuple[tuple[int, int], ...]:
    if samples is None:
        return ((0, length),)
    if len(samples) > MAX_SAMPLES_PER_JOB:
        raise TooLarge(f"a job locates at most {MAX_SAMPLES_PER_JOB} samples, heimdall:samples names {len(samples)}")
    for index, sample in enumerate(samples):
        if sample.sample_start + sample.sample_count > length:
            raise MalformedIq(
                f"heimdall:samples[{index}] ends at {sample.sample_start + sample.sample_count}, "
                f"but each channel has {length} samples"
            )
    return tuple((sample.sample_start, sample.sample_count) for sample in samples)


def _complex_array(iq: Any, pointer: str) -> NDArray[np.complex64]:
    shape = "[N][2] or [receiver][N][2]"
    if _scalars(iq) - {int, float, list}:
        raise MalformedIq(f"{pointer} holds something other than numbers: it must be {shape}")
    try:
        pairs = np.asarray(iq)
    except ValueError:
        raise MalformedIq(f"{pointer} is no rectangular array: it must be {shape}") from None
    if pairs.dtype.kind not in "iuf":
        raise MalformedIq(f"{pointer} holds something other than numbers: it must be {shape}")
    if pairs.ndim not in (2, 3) or pairs.shape[-1] != _PAIR or not pairs.size:
        raise MalformedIq(f"{pointer} has the shape {list(pairs.shape)}; it must be {shape}")
    if np.abs(pairs).max() > np.finfo(np.float32).max:
        raise NonFiniteIq(f"{pointer} holds a number beyond single precision; full scale is 1")
    flat = np.ascontiguousarray(pairs, dtype=np.float32).view(np.complex64)[..., 0]
    return flat[np.newaxis] if flat.ndim == 1 else flat


def _scalars(nested: list[Any]) -> set[type]:
    """Types at the bottom of nested lists; `list` among them where some lie deeper than others.

    One long text among many numbers would make numpy give every number as many bytes as the text has.
    """
    level: list[Any] = nested
    while (kinds := set(map(type, level))) == {list}:
        level = list(chain.from_iterable(level))
    return kinds


def _check_receivers(receivers: Sequence[Receiver] | None, channels: int) -> None:
    if channels > MAX_CHANNELS:
        raise TooLarge(f"a job has at most {MAX_CHANNELS} receivers, this one has {channels}")
    if receivers is None:
        return
    if len(receivers) != channels:
        raise MalformedMetadata(f"receivers has {len(receivers)} entries, the IQ has {channels}: one per receiver")
    if len({receiver.id for receiver in receivers}) != channels:
        raise MalformedMetadata("two receivers share an id")
