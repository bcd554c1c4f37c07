"""Live results on the topic exchange `heimdall.events`: one event per sample."""

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from schemas.problems import Problem
from schemas.result import JobFields, LocalizationResult, Prediction
from schemas.time import DateTime

EXCHANGE: Final = "heimdall.events"
COMPLETE: Final = "localization.complete"
FAILED: Final = "localization.failed"


class SampleResult(JobFields, Prediction):
    """A located sample of a batch job, with the fields of its job."""


class CompleteEvent(BaseModel):
    """A sample was located; routing key `localization.complete`."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    event: Literal["localization.complete"]
    timestamp: DateTime
    data: LocalizationResult | SampleResult


class FailedEvent(BaseModel):
    """A job or a sample could not be located; routing key `localization.failed`."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    event: Literal["localization.failed"]
    timestamp: DateTime
    data: Problem
