"""Reading what a job carries: a SigMF Recording's metadata, or a JSON body; and checking that it fits its bytes."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Final, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import ValidationError

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
from worker.errors import MalformedIq, MalformedMetadata, NonFiniteIq, TooLarge, UnsupportedDatatype
from worker.recording import Recording

MAX_REPORTED_ERRORS: Final = 5
MAX_ERROR_TEXT: Final = 300
MAX_KNOWN_BYTES: Final = 16 * 1024
"""Of a global object that is kept once it was validated: a hundred receivers and more."""
_PAIR: Final = 2  # [i, q]

Model = TypeVar("Model", SigmfMetadata, JsonJob)


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
