"""The report: figures with intervals, and every scene, so that it can be scored again."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from client.errors import CaptureError
from client.evaluation.intervals import Estimate, Rows, bootstrap, resampled_blocks, wilson
from client.evaluation.scenes import FailedScene, LocatedScene, Scene, blocks_of, scores_of
from client.evaluation.scoring import CONFIDENCES, Scores, pit_distance

COVERAGES: Final = {f"coverage{round(100 * level)}": level for level in CONFIDENCES}
METRICS: Final = ("n", "failed", "median_m", "mean_m", "p90_m", *COVERAGES, "nll", "pit_ks")
"""Names of the figures: of the report, of the last line and of `--fail-if`."""


@dataclass(frozen=True)
class Evaluation:
    """Scenes of one evaluation, scored.

    Attributes:
        located: with a fix.
        failed: without.
        scores: of `located`, in order.
        estimates: figures with intervals, by the names of `METRICS`; NaN where nothing was located.
        intervals: how the intervals came about, for people.
    """

    located: list[LocatedScene]
    failed: list[FailedScene]
    scores: Scores
    estimates: dict[str, Estimate]
    intervals: str

    @property
    def figures(self) -> dict[str, float]:
        """Every figure by its name."""
        values = {name: estimate.value for name, estimate in self.estimates.items()}
        return {"n": float(len(self.located)), "failed": float(len(self.failed)), **values}

    @property
    def line(self) -> str:
        """The last line of `heimdall evaluate`."""
        figures = self.figures
        return (
            f"evaluate: n={len(self.located)} median_m={figures['median_m']:.1f} p90_m={figures['p90_m']:.1f} "
            f"coverage50={figures['coverage50']:.3f} coverage90={figures['coverage90']:.3f} nll={figures['nll']:.3f}"
        )


def evaluate(scenes: Sequence[Scene]) -> Evaluation:
    """Score scenes."""
    fixes = [scene for scene in scenes if isinstance(scene, LocatedScene)]
    missing = [scene for scene in scenes if isinstance(scene, FailedScene)]
    scores = scores_of(fixes)
    estimates, intervals = _estimates(scores, fixes)
    return Evaluation(fixes, missing, scores, estimates, intervals)


def _estimates(scores: Scores, fixes: Sequence[LocatedScene]) -> tuple[dict[str, Estimate], str]:
    if not fixes:
        nothing = Estimate(np.nan, np.nan, np.nan)
        return dict.fromkeys(METRICS[2:], nothing), "nothing was located"
    blocks, named = blocks_of(fixes), any(scene.block is not None for scene in fixes)
    samples = resampled_blocks(blocks)
    estimates = {
        name: _bootstrapped(values, samples, quantile)
        for name, values, quantile in (
            ("median_m", scores.error_m, 0.5),
            ("mean_m", scores.error_m, None),
            ("p90_m", scores.error_m, 0.9),
            ("nll", scores.nll, None),
        )
    }
    for name, level in COVERAGES.items():
        estimates[name] = _coverage(scores.covered(level), samples if named else None)
    low, high = bootstrap(lambda rows: pit_distance(scores.pit[rows]), samples)
    estimates["pit_ks"] = Estimate(pit_distance(scores.pit), low, high)
    told = f"bootstrap over {len(set(blocks))} blocks" if named else "coverage by Wilson, others by bootstrap"
    return {name: estimates[name] for name in METRICS[2:]}, f"95 %, {told}"


def _bootstrapped(values: np.ndarray[Any, Any], samples: Sequence[Rows], quantile: float | None) -> Estimate:
    def figure(rows: Rows | slice) -> float:
        chosen = values[rows]
        return float(np.mean(chosen) if quantile is None else np.quantile(chosen, quantile))

    return Estimate(figure(slice(None)), *bootstrap(figure, samples))


def _coverage(inside: np.ndarray[Any, Any], samples: Sequence[Rows] | None) -> Estimate:
    if samples is not None:
        return _bootstrapped(inside.astype(np.float64), samples, None)
    return Estimate(float(inside.mean()), *wilson(int(inside.sum()), inside.size))


def as_document(evaluation: Evaluation, datasets: Sequence[str]) -> dict[str, Any]:
    """The report as JSON."""
    models = Counter(scene.model.model_dump_json() for scene in evaluation.located)
    scores = evaluation.scores
    rows = zip(evaluation.located, scores.error_m, scores.squared, scores.nll, scores.pit, strict=True)
    return {
        "datasets": list(datasets),
        "n": len(evaluation.located),
        "failed": len(evaluation.failed),
        "intervals": evaluation.intervals,
        "figures": {name: _finite(estimate) for name, estimate in evaluation.estimates.items()},
        "models": [orjson.loads(model) | {"scenes": count} for model, count in models.items()],
        "scenes": [
            scene.model_dump() | {"error_m": error_m, "d2": squared, "nll": nll, "pit": pit}
            for scene, error_m, squared, nll, pit in rows
        ],
        "failures": [scene.model_dump() for scene in evaluation.failed],
    }


def write_report(evaluation: Evaluation, datasets: Sequence[str], path: Path) -> None:
    """Write the report.

    Raises:
        CaptureError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(orjson.dumps(as_document(evaluation, datasets), option=orjson.OPT_SERIALIZE_NUMPY))
    except OSError as error:
        raise CaptureError(f"--out {path.parent}: {error.strerror}") from None


class _Report(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    scenes: list[LocatedScene]
    failures: list[FailedScene]


def read_report(path: Path) -> list[Scene]:
    """The scenes of a report that was written before.

    Raises:
        CaptureError: unreadable, or no such report.
    """
    try:
        report = _Report.model_validate_json(path.read_bytes())
    except OSError as error:
        raise CaptureError(f"{path}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = "/".join(map(str, first["loc"]))
        raise CaptureError(f"{path}: no report of heimdall evaluate: {where}: {first['msg']}") from None
    return [*report.scenes, *report.failures]


def _finite(estimate: Estimate) -> dict[str, float | None]:
    values = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    return {name: None if np.isnan(value) else value for name, value in values.items()}
