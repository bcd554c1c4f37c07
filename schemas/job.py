"""A job as it is published: properties and headers (the envelope), and the JSON body for trying things by hand.

The other body, a SigMF Recording, is described in `schemas.sigmf`.
"""

import re
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, Json, WithJsonSchema

from schemas.claim import Claim
from schemas.geo import Receiver
from schemas.sigmf import MAX_CHANNELS, MAX_SAMPLES_PER_JOB
from schemas.time import DateTime

EXCHANGE: Final = "heimdall.iq"
ROUTING_KEY: Final = "localize"
SIGMF_CONTENT_TYPE: Final = "application/octet-stream"
JSON_CONTENT_TYPE: Final = "application/json"
PROBLEM_CONTENT_TYPE: Final = "application/problem+json"
JOB_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)
MAX_CORRELATION_ID: Final = 255
MAX_SIGMF_HEADER_BYTES: Final = 64 * 1024
MAX_JSON_BODY_BYTES: Final = 1024 * 1024
MAX_SESSION_ID: Final = 128
MAX_CONFIDENCES: Final = 8
DEFAULT_CONFIDENCE: Final = (0.68, 0.95)
MAX_CONFIDENCE: Final = 0.999

ConfidenceLevel = Annotated[float, Field(gt=0, le=MAX_CONFIDENCE, allow_inf_nan=False)]
SessionId = Annotated[str, Field(min_length=1, max_length=MAX_SESSION_ID)]

_PAIR: Final = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
_CHANNEL: Final = {"type": "array", "items": _PAIR, "minItems": 1}
_SAMPLE: Final = {"anyOf": [_CHANNEL, {"type": "array", "items": _CHANNEL, "minItems": 1}]}

# Checked as an array once, by numpy, not pair by pair: 20,000 numbers are no work for a validator.
IqList = Annotated[list[Any], Field(min_length=1), WithJsonSchema(_SAMPLE)]


class JobHeaders(BaseModel):
    """Headers of a job that the worker reads; others are ignored, and none is ever copied onto what it publishes."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    session_id: SessionId | None = Field(None, description="Groups the fixes of one source; chooses the canary.")
    capture_time: DateTime | None = Field(None, description="Used where the capture carries no core:datetime.")
    deadline_ms: Annotated[int, Field(ge=0)] | None = Field(None, description="Absolute Unix time, milliseconds.")
    confidence: ConfidenceLevel | Annotated[list[ConfidenceLevel], Field(min_length=1, max_length=MAX_CONFIDENCES)] = (
        Field(list(DEFAULT_CONFIDENCE), description="Confidence of the ellipses, one or several.")
    )
    cache_enabled: bool = True
    continue_on_error: bool = Field(True, description="Batch jobs: false = the first error fails the whole job.")
    sigmf: str | None = Field(None, description="SigMF metadata as JSON text, at most 64 KiB.")
    claim: Json[Claim] | None = Field(None, description="Where the dataset lies, as JSON text; the body is empty then.")

    @property
    def confidences(self) -> tuple[float, ...]:
        """The asked confidences, in the order asked, each once."""
        asked = self.confidence if isinstance(self.confidence, list) else [self.confidence]
        return tuple(dict.fromkeys(asked))


class JsonJob(BaseModel):
    """Body of an `application/json` job: exactly one of `iq_data` and `iq_samples`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    iq_data: IqList | None = Field(None, description="[N][2] or [receiver][N][2], full scale = 1.")
    iq_samples: Annotated[list[IqList], Field(min_length=1)] | None = Field(
        None,
        description=f"A batch job: up to {MAX_SAMPLES_PER_JOB} of these.",
        json_schema_extra={"maxItems": MAX_SAMPLES_PER_JOB},
    )
    sample_rate: Annotated[float, Field(gt=0, le=1e12)] | None = Field(None, description="Default: the model's.")
    center_frequency: float | None = Field(None, allow_inf_nan=False)
    receivers: Annotated[list[Receiver], Field(min_length=1, max_length=MAX_CHANNELS)] | None = None
    session_id: SessionId | None = None
    cache_enabled: bool | None = None
