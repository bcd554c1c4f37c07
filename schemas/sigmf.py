"""SigMF as it travels: the datatypes, and the metadata of a job.

Source of the rules: the SigMF specification 1.2 (https://sigmf.org), sections "Dataset Format", "Global Object",
"Captures Array", and the extension mechanism. The fields `heimdall:*` are documented in heimdall.sigmf-ext.md.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from schemas.geo import Receiver
from schemas.time import DateTime

_DATATYPE: Final = re.compile(r"^(?P<kind>[cr])(?P<number>f64|f32|i32|i16|u32|u16|i8|u8)(?:_(?P<endian>le|be))?$")


_KINDS: Final[dict[str, Literal["f", "i", "u"]]] = {"f": "f", "i": "i", "u": "u"}


class DatatypeError(ValueError):
    """Not a datatype that this wire takes; the message says which would be."""


@dataclass(frozen=True, slots=True)
class Datatype:
    """A complex SigMF datatype such as `ci16_le`.

    Attributes:
        name: as written in `core:datatype`.
        kind: of one component: `f` floating point, `i` signed, `u` unsigned.
        component_bytes: bytes of one component (I or Q).
        endian: `<` little, `>` big; `|` where a component is one byte.
    """

    name: str
    kind: Literal["f", "i", "u"]
    component_bytes: int
    endian: Literal["<", ">", "|"]

    @property
    def sample_bytes(self) -> int:
        """Bytes of one complex sample of one channel."""
        return 2 * self.component_bytes

    @property
    def numpy_name(self) -> str:
        """The numpy dtype of one component, for example `<i2`."""
        return f"{self.endian}{self.kind}{self.component_bytes}"

    @classmethod
    @lru_cache(maxsize=64)
    def parse(cls, name: str) -> "Datatype":
        """Read a SigMF datatype.

        Args:
            name: such as `cf32_le`; one-byte types carry no endianness.

        Raises:
            DatatypeError: real-valued, unknown, or without the endianness it needs.
        """
        match = _DATATYPE.fullmatch(name)
        if match is None:
            raise DatatypeError(
                f"unknown datatype {name[:32]!r}; known are cf32_le, cf64_le, ci32_le, ci16_le, "
                "cu32_le, cu16_le (or _be), ci8 and cu8"
            )
        if match["kind"] == "r":
            raise DatatypeError(f"datatype {name!r} is real-valued; localisation needs complex samples (c…)")
        size = int(match["number"][1:]) // 8
        if (size == 1) != (match["endian"] is None):
            raise DatatypeError(
                f"datatype {name!r}: "
                + ("one-byte types carry no _le or _be" if size == 1 else f"say the byte order: {name}_le or {name}_be")
            )
        kind = _KINDS[match["number"][0]]
        return cls(name, kind, size, "|" if size == 1 else ("<" if match["endian"] == "le" else ">"))


EXTENSION_NAME: Final = "heimdall"
EXTENSION_VERSION: Final = "1.0.0"
MAX_CHANNELS: Final = 64
MAX_SAMPLES_PER_JOB: Final = 100

# Each describes a file on disk; a message holds the dataset alone, to the byte (SigMF, "Global Object", "Captures").
_REFUSED_GLOBAL: Final = ("core:dataset", "core:metadata_only", "core:trailing_bytes")
_REFUSED_CAPTURE: Final = ("core:header_bytes",)


class SampleRange(BaseModel):
    """One sample to locate within a batch job, counted per channel."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sample_start: int = Field(ge=0)
    sample_count: int = Field(ge=1)


class Extension(BaseModel):
    """An extension of SigMF that the metadata uses."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: str
    optional: bool = True


class SigmfGlobal(BaseModel):
    """The global object: what holds for the whole dataset. Fields of other namespaces may stand beside these."""

    model_config = ConfigDict(extra="allow", frozen=True, populate_by_name=True)

    datatype: str = Field(alias="core:datatype", max_length=32)
    sample_rate: float = Field(alias="core:sample_rate", gt=0, le=1e12, allow_inf_nan=False)
    version: str = Field("1.2.0", alias="core:version", max_length=32)
    num_channels: int = Field(1, alias="core:num_channels", ge=1, le=MAX_CHANNELS)
    offset: int = Field(0, alias="core:offset")
    extensions: list[Extension] = Field([], alias="core:extensions", max_length=32)
    receivers: list[Receiver] | None = Field(None, alias="heimdall:receivers", max_length=MAX_CHANNELS)
    samples: Annotated[list[SampleRange], Field(min_length=1)] | None = Field(None, alias="heimdall:samples")

    @model_validator(mode="after")
    def _is_transport_form(self) -> Self:
        for name in _REFUSED_GLOBAL:
            if (self.model_extra or {}).get(name):
                raise ValueError(f"{name} describes a file; a message carries the dataset alone: leave it out")
        if self.offset:
            raise ValueError("core:offset must be 0: the body is the whole dataset")
        return self

    @model_validator(mode="after")
    def _extensions_known(self) -> Self:
        declared = {extension.name for extension in self.extensions}
        uses = self.receivers is not None or self.samples is not None
        if uses and EXTENSION_NAME not in declared:
            raise ValueError(
                "heimdall:* fields need the extension declared: core:extensions = "
                f'[{{"name": "{EXTENSION_NAME}", "version": "{EXTENSION_VERSION}", "optional": false}}]'
            )
        for extension in self.extensions:
            if not extension.optional and extension.name != EXTENSION_NAME:
                raise ValueError(f"extension {extension.name!r} is not optional, and this worker does not know it")
            if extension.name == EXTENSION_NAME and extension.version.split(".")[0] != EXTENSION_VERSION.split(".")[0]:
                raise ValueError(f"extension heimdall is version {EXTENSION_VERSION}, not {extension.version!r}")
        return self

    @model_validator(mode="after")
    def _receivers_fit(self) -> Self:
        if self.receivers is None:
            return self
        if len(self.receivers) != self.num_channels:
            raise ValueError(
                f"heimdall:receivers has {len(self.receivers)} entries for {self.num_channels} channels, not one each"
            )
        ids = [receiver.id for receiver in self.receivers]
        if len(set(ids)) != len(ids):
            raise ValueError("two entries of heimdall:receivers share an id")
        return self


class SigmfCapture(BaseModel):
    """A capture segment: when, and at which frequency, it was recorded."""

    model_config = ConfigDict(extra="allow", frozen=True, populate_by_name=True)

    sample_start: int = Field(0, alias="core:sample_start", ge=0)
    frequency: float | None = Field(None, alias="core:frequency", allow_inf_nan=False)
    datetime: DateTime | None = Field(None, alias="core:datetime")

    @model_validator(mode="after")
    def _is_transport_form(self) -> Self:
        for name in _REFUSED_CAPTURE:
            if (self.model_extra or {}).get(name):
                raise ValueError(f"{name} describes a file; a message carries the dataset alone: leave it out")
        return self


class SigmfMetadata(BaseModel):
    """SigMF metadata of a job: the header `sigmf` of an `application/octet-stream` message."""

    model_config = ConfigDict(extra="allow", frozen=True, populate_by_name=True)

    global_: SigmfGlobal = Field(alias="global")
    captures: list[SigmfCapture] = Field([], max_length=1000)
    annotations: list[dict[str, JsonValue]] = Field([], max_length=10_000)

    @model_validator(mode="after")
    def _one_capture_is_one_sample(self) -> Self:
        if len(self.captures) > 1 and self.global_.samples is None:
            raise ValueError(
                f"{len(self.captures)} captures are a retune or a gap within one recording: publish one job per "
                "capture, or name the samples in heimdall:samples"
            )
        if len({capture.frequency for capture in self.captures}) > 1:
            raise ValueError("the captures differ in core:frequency: publish one job per frequency")
        return self

    @property
    def center_frequency_hz(self) -> float | None:
        """Centre frequency of the first capture."""
        return self.captures[0].frequency if self.captures else None

    @property
    def capture_time(self) -> str | None:
        """`core:datetime` of the first capture, as written."""
        return self.captures[0].datetime if self.captures else None
