"""Labelled scenes and what became of them."""

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from client.errors import HeimdallError, LocalizationError
from client.evaluation.geodesic import offset_m
from client.evaluation.labels import Label
from client.evaluation.scoring import Scores
from schemas.geo import Point
from schemas.problems import Problem
from schemas.result import Coordinates, Fix, ModelReference


class _Kept(BaseModel):
    # A report is read again by later versions.
    model_config = ConfigDict(extra="ignore", frozen=True)


class LocatedScene(_Kept):
    """A scene with its fix: what a report keeps of it, enough to score it again.

    Attributes:
        name: of the recording.
        sample: which of a batch recording; 0 otherwise.
        block: see `Label`.
        truth: where the transmitter was.
        position: of the fix.
        covariance_m2: of the fix, [[ee, en], [en, nn]].
        model: that computed it.
    """

    name: str
    sample: int
    block: str | None
    truth: Point
    position: Coordinates
    covariance_m2: tuple[tuple[float, float], tuple[float, float]]
    model: ModelReference


class FailedScene(_Kept):
    """A scene without a fix, and why."""

    name: str
    sample: int
    code: str
    detail: str


Scene = LocatedScene | FailedScene


def located(name: str, sample: int, label: Label, fix: Fix, model: ModelReference) -> LocatedScene:
    """A scene with the fix that answered it."""
    return LocatedScene(
        name=name,
        sample=sample,
        block=label.block,
        truth=label.truth,
        position=fix.position,
        covariance_m2=fix.covariance_m2,
        model=model,
    )


def failed(name: str, sample: int, why: HeimdallError | Problem) -> FailedScene:
    """A scene that no fix answered."""
    if isinstance(why, LocalizationError):
        why = why.problem
    if isinstance(why, Problem):
        return FailedScene(name=name, sample=sample, code=str(why.code), detail=why.detail)
    return FailedScene(name=name, sample=sample, code=type(why).__name__, detail=str(why))


def scores_of(scenes: Sequence[LocatedScene]) -> Scores:
    """Scores of located scenes, in order."""
    fixes = np.array([(scene.position.latitude, scene.position.longitude) for scene in scenes]).reshape(-1, 2)
    truths = np.array([(scene.truth.latitude, scene.truth.longitude) for scene in scenes]).reshape(-1, 2)
    east_m, north_m = offset_m(fixes[:, 0], fixes[:, 1], truths[:, 0], truths[:, 1])
    covariances = np.array([scene.covariance_m2 for scene in scenes], np.float64).reshape(-1, 2, 2)
    return Scores(np.column_stack([east_m, north_m]), covariances)


def blocks_of(scenes: Sequence[LocatedScene]) -> list[str]:
    """The block of each scene; one that names none is a block of its own."""
    return [f"scene {index}" if scene.block is None else f"block {scene.block}" for index, scene in enumerate(scenes)]
