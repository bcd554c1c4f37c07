"""Results as they travel: the reply, the stored outcome at `heimdall:result:{job_id}`, and the data of events."""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.geo import Latitude, Longitude, Point
from schemas.job import MAX_CONFIDENCE
from schemas.problems import Problem
from schemas.time import DateTime

RESULT_KEY_PREFIX: Final = "heimdall:result:"

Finite = Annotated[float, Field(allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Flag = Literal["few_receivers", "outside_area", "clipped", "stale"]
InputDigest = Annotated[
    str, Field(pattern="^blake3:[0-9a-f]{64}$", description="Digest of publisher, metadata and body of the job.")
]


class _Wire(BaseModel):
    # Consumers must take fields that a later version adds.
    model_config = ConfigDict(extra="ignore", frozen=True)


class Coordinates(_Wire):
    """A position on WGS84, degrees."""

    latitude: Latitude
    longitude: Longitude


class SigmaUncertainty(_Wire):
    """Kept for older consumers. An ellipse is drawn from `ellipses`, never from these."""

    sigma_x: NonNegative = Field(description="1 sigma towards east, metres.")
    sigma_y: NonNegative = Field(description="1 sigma towards north, metres.")
    theta: Annotated[float, Field(gt=-90, le=90)] = Field(
        description="Angle of the major axis, degrees counter-clockwise from east."
    )
    confidence_interval: Annotated[float, Field(gt=0, lt=1)]


class Ellipse(_Wire):
    """An error ellipse at one confidence."""

    semi_major_m: NonNegative
    semi_minor_m: NonNegative
    azimuth_deg: Annotated[float, Field(ge=0, lt=180)] = Field(
        description="Of the major axis, clockwise from true north."
    )
    confidence: Annotated[float, Field(gt=0, le=MAX_CONFIDENCE)]
    area_m2: NonNegative


class ModelReference(_Wire):
    """Which model version computed the fix, and as what it served."""

    name: str
    version: str
    digest: str
    alias: str


class UsedReceiver(_Wire):
    """A receiver that took part."""

    id: str
    geolocation: Point | None


class IgnoredReceiver(_Wire):
    """A receiver that did not take part, and why."""

    id: str
    reason: str


class Timings(_Wire):
    """Where the time went, milliseconds."""

    queue: NonNegative = Field(description="Delivery to start of its micro-batch.")
    decode: NonNegative
    features: NonNegative
    inference: NonNegative
    geometry: NonNegative
    total: NonNegative = Field(description="Delivery to the result's encoding.")


class Fix(_Wire):
    """What belongs to one located sample."""

    position: Coordinates
    covariance_m2: tuple[tuple[Finite, Finite], tuple[Finite, Finite]] = Field(
        description="[[ee, en], [en, nn]], east and north, square metres."
    )
    uncertainty: SigmaUncertainty
    ellipse: Ellipse
    ellipses: list[Ellipse] = Field(min_length=1)
    confidence: Annotated[float, Field(ge=0, le=1)] | None
    geojson: dict[str, Any] = Field(description="An RFC 7946 FeatureCollection: ellipses, largest first, then the fix.")
    receivers_used: list[UsedReceiver]
    receivers_ignored: list[IgnoredReceiver]
    flags: list[Flag]
    cache_hit: bool


class JobFields(_Wire):
    """What belongs to a job as a whole."""

    job_id: str
    session_id: str | None
    capture_time: DateTime | None
    timestamp: DateTime
    age_ms: float | None
    model: ModelReference
    model_version: str
    center_frequency_hz: float | None
    input_digest: InputDigest


class LocalizationResult(JobFields, Fix):
    """Answer to a job with one sample."""

    inference_time_ms: NonNegative
    timings_ms: Timings


class Prediction(Fix):
    """One located sample of a batch job."""

    sample: int = Field(ge=0)


class BatchResult(JobFields):
    """Answer to a batch job: a prediction or an error per sample, in the order asked."""

    predictions: list[Prediction | Problem] = Field(min_length=1)
    total_time_ms: NonNegative
    samples_per_second: NonNegative
    inference_time_ms: NonNegative
    timings_ms: Timings
