"""The model contract: how to feed a model and how to read it, as its JSON document says.

A contract is read once when a version is loaded. Everything that can be wrong with it is found then.
"""

from typing import Any, Final, Literal, Self

from pydantic import Field, model_validator

from schemas.geo import Latitude, Longitude, Point, Receiver, ReceiverId
from worker.serving.contract_inputs import (
    FEATURE_AXES,
    RELATIVE_COLUMNS,
    Document,
    Input,
    LogMelInput,
    Number,
    Positive,
)

METADATA_KEY: Final = "heimdall.contract"
"""Key of the contract in the `metadata_props` of an ONNX file."""
FILE_NAME: Final = "contract.json"
"""Name of the contract beside `model.onnx`; it wins over the one inside."""
MAX_RECEIVERS: Final = 64


class Slot(Document):
    """A receiver the model was trained with; channels find it by id."""

    id: ReceiverId
    geolocation: Point


class Slots(Document):
    """A fixed network: each receiver has its place in the tensors, absent ones are filled."""

    slots: list[Slot] = Field(min_length=1, max_length=MAX_RECEIVERS)
    min_present: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        ids = [slot.id for slot in self.slots]
        if len(set(ids)) != len(ids):
            raise ValueError("two slots share an id")
        if self.min_present > len(ids):
            raise ValueError(f"min_present {self.min_present} is more than the {len(ids)} slots")
        return self

    @property
    def capacity(self) -> int:
        """Rows of the receiver axis."""
        return len(self.slots)


class SetLimits(Document):
    """How many receivers a set-based model takes, and which are kept when there are more."""

    max: int = Field(ge=1, le=MAX_RECEIVERS)
    keep: Literal["strongest"] = "strongest"


class ReceiverSet(Document):
    """Any receivers, up to a number; rows beyond those present are filled."""

    set: SetLimits
    min_present: int = Field(1, ge=1)

    @property
    def capacity(self) -> int:
        """Rows of the receiver axis."""
        return self.set.max

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.min_present > self.set.max:
            raise ValueError(f"min_present {self.min_present} is more than the {self.set.max} receivers of the set")
        return self


PositionAxis = Literal["latitude", "longitude", "north", "east"]


class Origin(Document):
    """A fixed origin of relative positions."""

    latitude: Latitude
    longitude: Longitude


class Position(Document):
    """How the position output is read: raw * scale + offset, per axis, in `frame`."""

    output: str
    frame: Literal["wgs84_deg", "delta_deg", "enu_m"]
    origin: Origin | Literal["centroid"] | None = None
    axes: tuple[PositionAxis, PositionAxis]
    scale: tuple[Number, Number] = (1.0, 1.0)
    offset: tuple[Number, Number] = (0.0, 0.0)
    metres_per_degree: tuple[Positive, Positive] | None = Field(
        None, description="[latitude, longitude] of the flat plane the model was trained on; absent = WGS84."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        expected = {"north", "east"} if self.frame == "enu_m" else {"latitude", "longitude"}
        if set(self.axes) != expected:
            raise ValueError(f"frame {self.frame} has the axes {sorted(expected)}, not {list(self.axes)}")
        if (self.frame == "wgs84_deg") != (self.origin is None):
            raise ValueError("wgs84_deg takes no origin; delta_deg and enu_m need one ('centroid' or fixed)")
        if 0.0 in self.scale:
            raise ValueError("a scale of 0 puts every fix at one place")
        return self


class Uncertainty(Document):
    """How the uncertainty output is read, in the unit of the raw position output."""

    output: str
    kind: Literal["sigma", "variance", "log_variance", "cholesky", "sigma_rho"]
    of: Literal["axis", "total"] = "axis"
    scale: float = Field(1.0, gt=0, description="Factor on the standard deviations, from recalibration.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.of == "total" and self.kind in {"cholesky", "sigma_rho"}:
            raise ValueError(f"{self.kind} describes both axes; `of: total` has no meaning with it")
        return self


class Confidence(Document):
    """An output in 0..1 that says how sure the model is."""

    output: str


class Golden(Document):
    """A vector the model must reproduce before it may serve: IQ as a job would carry it, or tensors."""

    sigmf: dict[str, Any] | None = Field(None, description="Metadata of the recording, as in a job.")
    body: str | None = Field(None, description="The dataset, base64.")
    tensors: dict[str, list[Any]] | None = Field(None, description="Graph inputs, where no IQ level is possible.")
    expected: dict[str, list[Any]] = Field(
        description="Raw outputs: of the one item where IQ is given, with their batch axis where tensors are."
    )
    rtol: float = Field(1e-3, ge=0)
    atol: float = Field(1e-4, ge=0)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.tensors is None) == (self.body is None) or (self.body is None) != (self.sigmf is None):
            raise ValueError("a golden vector has either sigmf and body, or tensors")
        return self


class ModelContract(Document):
    """The whole document."""

    version: Literal["1"] = "1"
    sample_rate: float | None = Field(None, gt=0, description="Hertz; null = any.")
    min_samples: int = Field(512, ge=1)
    area: tuple[Longitude, Latitude, Longitude, Latitude] | dict[str, Any] | None = Field(
        None, description="Where the model is valid: a bbox [west, south, east, north] or a GeoJSON Polygon."
    )
    level: Literal["dbfs", "dbm"] = "dbfs"
    receivers: Slots | ReceiverSet
    inputs: dict[str, Input] = Field(min_length=1)
    position: Position
    uncertainty: Uncertainty
    confidence: Confidence | None = None
    golden: list[Golden] = Field(default_factory=list)
    card: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _axes_fit(self) -> Self:
        for name, bound in self.inputs.items():
            allowed = FEATURE_AXES[bound.feature]
            missing = allowed - set(bound.axes)
            if not set(bound.axes) <= allowed or (missing - {"receiver"}) or (missing and self.capacity > 1):
                raise ValueError(f"input {name}: {bound.feature} has the axes {sorted(allowed)}, not {bound.axes}")
        return self

    @model_validator(mode="after")
    def _relative_columns_have_an_origin(self) -> Self:
        if self.position.origin is None:
            for name, bound in self.inputs.items():
                relative = [c.name for c in getattr(bound, "columns", ()) if c.name in RELATIVE_COLUMNS]
                if relative:
                    raise ValueError(f"input {name}: columns {relative} are relative, so position needs an origin")
        return self

    @model_validator(mode="after")
    def _area_is_polygon(self) -> Self:
        if isinstance(self.area, dict) and not (self.area.get("type") == "Polygon" and self.area.get("coordinates")):
            raise ValueError("area is a bbox [west, south, east, north] or a GeoJSON Polygon with coordinates")
        return self

    @property
    def capacity(self) -> int:
        """Rows of the receiver axis."""
        return self.receivers.capacity

    @property
    def required_samples(self) -> int:
        """Least number of samples per receiver: what is asked for, and one whole FFT."""
        return max([self.min_samples, *(i.n_fft for i in self.inputs.values() if isinstance(i, LogMelInput))])

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the graph outputs that are read, each once."""
        names = [self.position.output, self.uncertainty.output]
        return tuple(dict.fromkeys([*names, *([self.confidence.output] if self.confidence else [])]))

    @property
    def needs_center_frequency(self) -> bool:
        """Whether a job must say at which frequency it was recorded."""
        columns = [column for bound in self.inputs.values() for column in getattr(bound, "columns", ())]
        return any(column.name == "center_frequency" for column in columns)

    @property
    def needs_positions(self) -> bool:
        """Whether a job must say where its receivers stand."""
        features = {i.feature for i in self.inputs.values()}
        return (
            isinstance(self.receivers, Slots)
            or self.position.origin == "centroid"
            or bool(features & {"receiver_features", "receiver_positions", "receiver_ids"})
        )


def slot_receivers(contract: ModelContract) -> list[Receiver]:
    """Receivers of a slot-based contract, in slot order; empty for a set."""
    if not isinstance(contract.receivers, Slots):
        return []
    return [Receiver(id=slot.id, geolocation=slot.geolocation) for slot in contract.receivers.slots]
