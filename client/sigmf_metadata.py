"""SigMF metadata as it lies on disk: what the wire's own model refuses, a file may say.

Source: the SigMF specification 1.2, "Global Object", "Captures Array" and "SigMF Collection Format".
"""

from pathlib import Path
from typing import Annotated, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from client.errors import CaptureError
from schemas.geo import Point, Receiver
from schemas.sigmf import SampleRange
from schemas.time import DateTime

Model = TypeVar("Model", bound=BaseModel)
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _OnDisk(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class GlobalOnDisk(_OnDisk):
    """The global object of a recording; what is not named here travels along as `model_extra`."""

    datatype: str = Field(alias="core:datatype")
    sample_rate: Rate | None = Field(None, alias="core:sample_rate")
    num_channels: int = Field(1, alias="core:num_channels", ge=1)
    offset: int = Field(0, alias="core:offset", ge=0)
    trailing_bytes: int = Field(0, alias="core:trailing_bytes", ge=0)
    dataset: str | None = Field(None, alias="core:dataset")
    metadata_only: bool = Field(False, alias="core:metadata_only")
    geolocation: Point | None = Field(None, alias="core:geolocation")
    receivers: list[Receiver] | None = Field(None, alias="heimdall:receivers")
    samples: list[SampleRange] | None = Field(None, alias="heimdall:samples")
    # Of the file and not of the signal: named to be left behind.
    sha512: JsonValue = Field(None, alias="core:sha512")
    collection: JsonValue = Field(None, alias="core:collection")


class CaptureOnDisk(_OnDisk):
    """A capture segment; `header_bytes` lie before its samples and are none."""

    sample_start: int = Field(0, alias="core:sample_start", ge=0)
    header_bytes: int = Field(0, alias="core:header_bytes", ge=0)
    frequency: float | None = Field(None, alias="core:frequency", allow_inf_nan=False)
    datetime: DateTime | None = Field(None, alias="core:datetime")
    geolocation: Point | None = Field(None, alias="core:geolocation")


class MetadataOnDisk(_OnDisk):
    """A `.sigmf-meta` file."""

    global_: GlobalOnDisk = Field(alias="global")
    captures: list[CaptureOnDisk] = Field(default_factory=list)


class Stream(_OnDisk):
    """A recording of a collection, by its base name."""

    name: str


class StreamsOnDisk(_OnDisk):
    """The collection object."""

    streams: list[Stream] = Field(alias="core:streams", min_length=1)


class CollectionOnDisk(_OnDisk):
    """A `.sigmf-collection` file."""

    collection: StreamsOnDisk


def read_as(model: type[Model], path: Path) -> Model:
    """Read a JSON file as a model.

    Raises:
        CaptureError: unreadable or not valid; the message names file and field.
    """
    try:
        return model.model_validate(orjson.loads(path.read_bytes()))
    except OSError as error:
        raise CaptureError(f"{path}: {error.strerror}") from None
    except orjson.JSONDecodeError as error:
        raise CaptureError(f"{path}: no JSON: {error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise CaptureError(f"{path}: {'/'.join(map(str, first['loc']))}: {first['msg']}") from None
