"""The inputs of a model contract: which feature each graph input takes, and how it is computed."""

from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from worker.dsp.log_mel import LogMelSpec

Axis = Literal["batch", "receiver", "mel", "frame", "sample", "column", "iq"]
Number = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Document(BaseModel):
    """A part of the contract."""

    # An unknown key is an error: a misspelt option must not silently fall back to its default.
    model_config = ConfigDict(extra="forbid", frozen=True)


class Floor(Document):
    """What keeps the logarithm finite."""

    kind: Literal["add", "clamp"] = "add"
    value: float = Field(gt=0)


class Normalise(Document):
    """Fixed statistics keep the level; the others remove it (it is what mel knows of the position)."""

    kind: Literal["none", "fixed", "per_sample", "per_receiver"] = "none"
    mean: Number = 0.0
    std: float = Field(1.0, gt=0)


class Frames(Document):
    """A fixed number of frames: where to crop, and with what to pad."""

    count: int = Field(ge=1)
    place: Literal["start", "centre"] = "start"
    pad: Literal["zeros", "reflect", "edge"] = "zeros"


class _Input(Document):
    dtype: Literal["float32", "float64", "float16", "int64", "int32", "bool"] = "float32"
    axes: list[Axis]
    fill: Number = Field(0.0, description="Value of the rows of absent receivers, after normalisation.")

    @model_validator(mode="after")
    def _axes_once(self) -> Self:
        if len(set(self.axes)) != len(self.axes):
            raise ValueError(f"axes {self.axes} name one axis twice")
        if "batch" not in self.axes:
            raise ValueError(f"axes {self.axes} have no batch axis: items could not be run together")
        return self


class LogMelInput(_Input):
    """Log-mel spectrogram of every receiver: axes batch, receiver, mel, frame."""

    feature: Literal["log_mel"]
    signal: Literal["iq", "envelope"] = "iq"
    n_fft: int = Field(ge=16, le=65_536)
    hop: int = Field(ge=1)
    window: Literal["hann", "hamming", "blackman", "boxcar"] = "hann"
    boundary: Literal["none", "zeros"] = Field("none", description="zeros = frames about k·hop, as scipy.signal.stft.")
    sides: Literal["one", "two"] = "two"
    n_mels: int = Field(ge=1, le=1024)
    fmin: Number
    fmax: Number
    sample_rate: float = Field(gt=0, description="Rate the filters are built for: nominal or literal, hertz.")
    mel_scale: Literal["htk", "slaney", "linear"] = "htk"
    filter_norm: Literal["slaney", "none"] = "none"
    power_scale: Literal["none", "1/n_fft", "1/sum(w)²"] = "none"
    floor: Floor
    log: Literal["ln", "db"] = "db"
    normalise: Normalise = Normalise()
    frames: Frames | None = None
    receiver_padding: Literal["fill", "repeat"] = "fill"

    @property
    def spec(self) -> LogMelSpec:
        """The same, as the signal processing takes it."""
        return LogMelSpec(
            signal=self.signal,
            n_fft=self.n_fft,
            hop=self.hop,
            window=self.window,
            boundary=self.boundary,
            sides=self.sides,
            n_mels=self.n_mels,
            fmin_hz=self.fmin,
            fmax_hz=self.fmax,
            sample_rate_hz=self.sample_rate,
            mel_scale=self.mel_scale,
            filter_norm=self.filter_norm,
            power_scale="1/sum(w)^2" if self.power_scale == "1/sum(w)²" else self.power_scale,
            floor=self.floor.kind,
            floor_value=self.floor.value,
            log=self.log,
            normalise=self.normalise.kind,
            mean=self.normalise.mean,
            std=self.normalise.std,
            n_frames=self.frames.count if self.frames else None,
            place=self.frames.place if self.frames else "start",
            pad_mode=self.frames.pad if self.frames else "zeros",
        )


ColumnName = Literal[
    "snr_db",
    "psd_dbm_hz",
    "freq_offset_hz",
    "signal_present",
    "lat",
    "lon",
    "alt",
    "north_m",
    "east_m",
    "delta_lat",
    "delta_lon",
    "center_frequency",
]


RELATIVE_COLUMNS: Final = frozenset({"north_m", "east_m", "delta_lat", "delta_lon"})


class Column(Document):
    """One receiver feature: (value - offset) / scale, then clipped."""

    name: ColumnName
    offset: Number = 0.0
    scale: Number = 1.0
    clip: tuple[Number, Number] | None = None
    threshold_db: Number = Field(0.0, description="signal_present is 1 where the SNR is above it.")

    @model_validator(mode="after")
    def _scale_not_zero(self) -> Self:
        if self.scale == 0:
            raise ValueError(f"column {self.name}: a scale of 0 divides by zero")
        return self

    @model_validator(mode="after")
    def _clip_ascends(self) -> Self:
        if self.clip is not None and self.clip[0] > self.clip[1]:
            raise ValueError(f"column {self.name}: clip {list(self.clip)} must ascend")
        return self


class ReceiverFeaturesInput(_Input):
    """Columns of figures per receiver: axes batch, receiver, column."""

    feature: Literal["receiver_features"]
    columns: list[Column] = Field(min_length=1)


class ReceiverPositionsInput(_Input):
    """Positions of the receivers, as columns: axes batch, receiver, column."""

    feature: Literal["receiver_positions"]
    columns: list[Column] = Field(min_length=1)


class ReceiverIdsInput(_Input):
    """Integer identity of each receiver: axes batch, receiver."""

    feature: Literal["receiver_ids"]
    table: dict[str, int] | Literal["row"] = Field(description="Integer of each id; row = the number of its row.")
    unknown: int | None = Field(None, description="Value of an id not in the table; absent = the job is refused.")

    @property
    def known(self) -> dict[str, int] | None:
        """The only ids a job may name; None = any."""
        return None if self.table == "row" or self.unknown is not None else self.table


class ReceiverMaskInput(_Input):
    """Which rows hold a receiver: axes batch, receiver."""

    feature: Literal["receiver_mask"]
    true_means: Literal["present", "absent"]


class IqInput(_Input):
    """The samples themselves: axes batch, receiver, iq, sample, where iq = [i, q]."""

    feature: Literal["iq"]
    length: int = Field(ge=1)
    place: Literal["start", "centre"] = "start"
    pad: Literal["zeros", "reflect", "edge"] = "zeros"
    scale: Number = 1.0


Input = Annotated[
    LogMelInput | ReceiverFeaturesInput | ReceiverPositionsInput | ReceiverIdsInput | ReceiverMaskInput | IqInput,
    Field(discriminator="feature"),
]

FEATURE_AXES: Final[dict[str, frozenset[str]]] = {
    "log_mel": frozenset({"batch", "receiver", "mel", "frame"}),
    "receiver_features": frozenset({"batch", "receiver", "column"}),
    "receiver_positions": frozenset({"batch", "receiver", "column"}),
    "receiver_ids": frozenset({"batch", "receiver"}),
    "receiver_mask": frozenset({"batch", "receiver"}),
    "iq": frozenset({"batch", "receiver", "iq", "sample"}),
}
