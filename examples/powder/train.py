"""Train the models of the POWDER example, and write them as ONNX with their contracts inside.

    OPENBLAS_NUM_THREADS=1 python -m examples.powder.train

Eleven models by one recipe: `powder.onnx` from all samples, and for each held-out part of the cross-validation (five
folds of 150 m cells, five of 300 m cells) one that never saw it. Training, calibration included, sees nothing of the
part: each model makes its own inner folds of what is left, and always of 150 m cells. The same seed gives the same
models on the same machine.
"""

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from examples.powder.campus import FINAL, PARTS, Part, data_directory, load_campus, outer_folds, training_samples
from examples.powder.ensemble import Gaussians
from examples.powder.model_file import SOURCE, Campus, export
from examples.powder.survey import Survey, SurveyError
from examples.powder.training import Recipe, Samples, train

SEED: Final = 1
PROCESSES: Final = 2


def train_one(campus: Campus, survey: Survey, recipe: Recipe, part: Part | None, path: Path) -> str:
    """Train without a part (None = on everything), write the model, and say what came of it."""
    started = time.monotonic()
    samples = training_samples(campus, survey)
    seed = [SEED, 0, 0]
    if part is not None:
        samples = samples.rows(outer_folds(campus, survey, part.cell_m) != part.fold)
        seed = [SEED, round(part.cell_m), part.fold]
    locator, unseen = train(samples, recipe, np.random.default_rng(seed))
    export(locator, campus, _card(survey, samples, part, recipe, unseen), path)
    told = (
        f"{path.name}: {len(samples)} samples, {_median_m(samples, unseen):.1f} m inner median, scale {locator.scale}"
    )
    return f"{told}, {path.stat().st_size / 1e3:.0f} kB, {time.monotonic() - started:.0f} s"


def _card(survey: Survey, samples: Samples, part: Part | None, recipe: Recipe, unseen: Gaussians) -> dict[str, Any]:
    return {
        "title": "POWDER, University of Utah campus, 462.7 MHz",
        "summary": "Position from received powers; powers, geometry and truth are real, waveforms are not.",
        "data": "measured powers, synthesised IQ",
        "source": SOURCE,
        "licence": "MIT (data), Apache-2.0 (code)",
        "training_samples": len(samples),
        "training_sha256": survey.sha256,
        "members": 5 * recipe.seeds,
        "held_out": None if part is None else part.name,
        "inner_median_m": round(_median_m(samples, unseen), 1),
    }


def _median_m(samples: Samples, unseen: Gaussians) -> float:
    return float(1e3 * np.median(np.hypot(*np.moveaxis(samples.truth_km - unseen.mean, -1, 0))))


def main() -> int:
    """Train all models, or the one of all samples."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--final-only", action="store_true", help="train powder.onnx alone")
    parser.add_argument("--steps", type=int, default=Recipe().steps)
    arguments = parser.parse_args()
    try:
        campus, survey = load_campus(data_directory())
    except SurveyError as error:
        print(f"powder: {error}", file=sys.stderr)
        return 1
    wanted: dict[Path, Part | None] = {FINAL: None}
    if not arguments.final_only:
        wanted |= {part.model: part for part in PARTS}
    one = partial(train_one, campus, survey, Recipe(steps=arguments.steps))
    with ProcessPoolExecutor(PROCESSES) as pool:
        for told in pool.map(one, wanted.values(), wanted.keys()):
            print(told, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
