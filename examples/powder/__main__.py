"""`make powder`: how well a model locates from powers that were really measured, through the real queue.

Without DATA: cross-validation. Each held-out part of the shared file is located by the one model that was trained and
calibrated without it; the parts are pooled. With DATA=FILE: `powder.onnx`, which was trained on all of the shared file,
locates the samples of FILE, which it must not have seen.

Powers, geometry and truth are real, waveforms are not.
"""

import argparse
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

import numpy as np

from deploy.local import LocalStackError, Stack
from examples.model_file import read_contract
from examples.powder.campus import FINAL, PARTS, Part, data_directory, load_campus, outer_folds
from examples.powder.cells import CELL_M, COARSE_CELL_M
from examples.powder.evaluation import REPORT, EvaluationFailed, Run, evaluate, heimdall_evaluate
from examples.powder.model_file import SOURCE, Campus, campus_of
from examples.powder.survey import SAMPLES, Survey, SurveyError, read_survey

OUT: Final = Path("out/powder")
HONEST: Final = f"Powers, geometry and truth are real ({SOURCE}); waveforms are synthesised at the measured powers."


def cross_validate(
    stack: Stack, shared: tuple[Campus, Survey], out: Path, cells_m: Sequence[float], limit: int | None
) -> dict[float, str]:
    """Locate every part of the shared file by the model that never saw it.

    Args:
        stack: broker, Redis and registry.
        shared: receivers and samples of the shared file.
        out: for reports and plots.
        cells_m: sizes of the held-out cells, in the order to run.
        limit: samples of each part; None = all.

    Returns:
        The pooled line of figures of each size.
    """
    (campus, survey), lines = shared, {}
    for cell_m in cells_m:
        fold = outer_folds(campus, survey, cell_m)
        parts = [part for part in PARTS if part.cell_m == cell_m]
        for part in parts:
            _check_blind(read_contract(part.model)["card"], part, survey)
            rows = np.flatnonzero(fold == part.fold)[:limit].tolist()
            line = evaluate(stack, Run(part.name, part.model, survey, rows), out / part.name)
            print(f"{part.name}: {line}", flush=True)
        reports = [out / part.name / REPORT for part in parts]
        print(f"\n{cell_m:.0f} m cells, all {len(parts)} folds out of fold:")
        lines[cell_m] = heimdall_evaluate(reports, out / f"cells{cell_m:.0f}", show=True)
    return lines


def _check_blind(card: dict[str, Any], part: Part, survey: Survey) -> None:
    if (card["held_out"], card["training_sha256"]) != (part.name, survey.sha256):
        raise EvaluationFailed(
            f"{part.model}: it holds out {card['held_out']} of another {SAMPLES}: run `make powder-train`, or give "
            "DATA=FILE if the samples are unseen"
        )


def _warn_of_seen(survey: Survey) -> None:
    shared = data_directory() / SAMPLES
    if not shared.is_file():
        print(f"not checked for samples that the model was trained on: {shared} is not here")
        return
    trained = read_survey(shared, campus_of(read_contract(FINAL)).ids)
    seen = len(_keys(survey) & _keys(trained))
    if seen:
        print(f"WARNING: {seen} of {len(survey)} samples are in {shared}: the model was trained on them")


def _keys(survey: Survey) -> set[tuple[str, float, float]]:
    return set(zip(survey.times, survey.latitude_deg.tolist(), survey.longitude_deg.tolist(), strict=True))


def run_shared(out: Path, limit: int | None) -> str:
    """Cross-validation on the shared file; returns the last line."""
    shared = load_campus(data_directory())
    with _stack() as stack:
        lines = cross_validate(stack, shared, out, (COARSE_CELL_M, CELL_M), limit)
    print(f"\nextrapolation, {COARSE_CELL_M:.0f} m cells out of fold: {lines[COARSE_CELL_M]}")
    print(f"{CELL_M:.0f} m cells out of fold (reports and plots in {out}):")
    return lines[CELL_M]


def run_file(path: Path, out: Path, limit: int | None) -> str:
    """The samples of a file by the model that was trained on all of the shared file; returns the last line."""
    survey = read_survey(path, campus_of(read_contract(FINAL)).ids)
    _warn_of_seen(survey)
    with _stack() as stack:
        print(f"{FINAL.name} on {path} (report and plots in {out}) …", flush=True)
        return evaluate(stack, Run(path.stem, FINAL, survey, list(range(len(survey)))[:limit]), out, show=True)


def _stack() -> AbstractContextManager[Stack]:
    print("starting RabbitMQ and Redis …", flush=True)
    return Stack.running()


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help=f"unseen samples in the format of {SAMPLES}")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--limit", type=int, help="samples of each part, for a quick look")
    arguments = parser.parse_args(argv)
    shared = data_directory() / SAMPLES
    if arguments.data is None and not shared.is_file():
        print(f"powder: skipped: {shared} is not here; set POWDER_DIR, or give DATA=FILE")
        return 0
    print(HONEST)
    try:
        if arguments.data is None or _is_shared(arguments.data, shared):
            print(run_shared(arguments.out, arguments.limit))
        else:
            print(run_file(arguments.data, arguments.out, arguments.limit))
    except (SurveyError, EvaluationFailed, LocalStackError) as error:
        print(f"powder: {error}", file=sys.stderr)
        return 1
    return 0


def _is_shared(data: Path, shared: Path) -> bool:
    if not (data.is_file() and shared.is_file() and data.read_bytes() == shared.read_bytes()):
        return False
    print(f"{data} is the file that {FINAL.name} was trained on: cross-validation instead")
    return True


if __name__ == "__main__":
    sys.exit(main())
