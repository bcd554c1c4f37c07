"""GeoJSON pieces that travel inside other messages (RFC 7946)."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Longitude = Annotated[float, Field(ge=-180, le=180, allow_inf_nan=False)]
Latitude = Annotated[float, Field(ge=-90, le=90, allow_inf_nan=False)]
Altitude = Annotated[float, Field(ge=-500, le=50_000_000, allow_inf_nan=False)]


class Point(BaseModel):
    """A GeoJSON Point on WGS84: longitude comes first, altitude in metres is optional (RFC 7946 section 3.1.2)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["Point"] = "Point"
    coordinates: tuple[Longitude, Latitude] | tuple[Longitude, Latitude, Altitude]

    @property
    def longitude(self) -> float:
        """Degrees east."""
        return self.coordinates[0]

    @property
    def latitude(self) -> float:
        """Degrees north."""
        return self.coordinates[1]

    @property
    def altitude_m(self) -> float:
        """Metres above the ellipsoid; 0 where not given."""
        return self.coordinates[2] if len(self.coordinates) == 3 else 0.0  # noqa: PLR2004 - RFC 7946's optional third


ReceiverId = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")]


class Receiver(BaseModel):
    """A receiver: its name and its antenna's place, and what it states about its own clock and level."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: ReceiverId
    geolocation: Point
    time_error_ns: Annotated[float, Field(allow_inf_nan=False)] | None = Field(
        None, description="Known error of the receiver's clock, nanoseconds; positive = its time stamps are late."
    )
    full_scale_dbm: Annotated[float, Field(ge=-200, le=100)] | None = Field(
        None, description="Power at the antenna that a full-scale complex tone stands for, dBm."
    )
