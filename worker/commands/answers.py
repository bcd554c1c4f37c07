"""What the model answers to made-up recordings: is every answer a fix, a plausible one, and the same in any batch."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from worker.commands.findings import Report
from worker.commands.subject import Batch, Subject, metres
from worker.commands.trials import KINDS, trials
from worker.geo.ellipse import principal_axes
from worker.geo.wgs84 import geodesic_distance_m
from worker.serving.outputs import NOT_FINITE, Fixes

ANSWERS: Final = "answers"
BATCH: Final = "batch"
PLAUSIBLE: Final = "position"
UNCERTAINTY: Final = "uncertainty"

_BATCH_SIZE: Final = 32
_SHOWN: Final = 3
# Rounding in single precision moves a fix in absolute degrees by less than a metre.
_SHIFT_M: Final = 1.0
_SHIFT_OF_SIGMA: Final = 0.01
_WIDENING: Final = 0.01
_NARROWEST_M: Final = 1.0
_WIDEST_M: Final = 500_000.0


def check_answers(subject: Subject, report: Report) -> None:
    """Silence, noise and tones, from the fewest to the most receivers: each must end in a fix."""
    batch, refused = subject.batch(trials(subject.contract, _BATCH_SIZE))
    for label, error in refused[:_SHOWN]:
        report.fail(
            ANSWERS,
            f"a job with {label} would be refused ({error.code}): {error}",
            "the contract refuses what it describes: compare receivers, area, min_present and inputs",
        )
    if not len(batch):
        return
    try:
        outputs, fixes = subject.run(batch)
    except RuntimeError as error:
        report.fail(ANSWERS, f"a batch of {len(batch)} varied recordings fails: {error}", _one_by_one(subject, batch))
        return
    except ValueError as error:
        report.fail(ANSWERS, str(error), "the first axis of each output is the batch; see position and uncertainty")
        return
    finite = {name: bool(np.isfinite(np.asarray(values, np.float64)).all()) for name, values in outputs.items()}
    _check_faults(batch, fixes, [name for name, all_finite in finite.items() if not all_finite], report)
    if not _valid(fixes).any():
        for check in (PLAUSIBLE, UNCERTAINTY, BATCH):
            report.skip(check, "not run: there is no fix to look at")
        return
    _check_plausible(subject, batch, fixes, report)
    _check_uncertainty(fixes, report)
    _check_batch(subject, batch, fixes, report)


def _one_by_one(subject: Subject, batch: Batch) -> str:
    """Which of the items fail alone, as a hint."""
    failing = []
    for row, label in enumerate(batch.labels):
        try:
            subject.run(batch.part([row]))
        except (RuntimeError, ValueError):
            failing.append(label)
    if not failing:
        return "each runs alone: the graph is made for one item, export it with a dynamic batch axis"
    return f"alone, too, fails: {_list(failing)}"


def _check_faults(batch: Batch, fixes: Fixes, infinite: list[str], report: Report) -> None:
    faults: dict[str, list[str]] = {}
    for label, fault in zip(batch.labels, fixes.faults, strict=True):
        if fault is not None:
            faults.setdefault(fault, []).append(label)
    for fault, labels in faults.items():
        hint = f"not finite: {', '.join(infinite)}; " if infinite else ""
        report.fail(
            ANSWERS,
            f"{fault}, with {_list(labels)} ({len(labels)} of {len(batch)} recordings)",
            f"{hint}{_REMEDIES.get(fault, _ELSE)}",
            items=labels,
        )
    if not faults:
        kinds = ", ".join(KINDS)
        report.ok(ANSWERS, f"{len(batch)} recordings ({kinds}; fewest to most receivers) each end in a fix")


_ELSE: Final = "jobs like these would end as inference_failed"
_REMEDIES: Final = {
    "the model's covariance is not positive definite": "see uncertainty/kind and its order, or bound the output in the "
    "graph (softplus on a scale, tanh on a correlation)",
    NOT_FINITE: "look for a division by the number of receivers, a log of 0, or an overflow; "
    "a fill of absent rows that the model was not trained with",
}


def _check_plausible(subject: Subject, batch: Batch, fixes: Fixes, report: Report) -> None:
    valid = _valid(fixes)
    if subject.contract.area is None:
        report.warn(PLAUSIBLE, "the contract names no area: no fix can be called outside it", "give one as area")
        return
    outside = subject.admission.outside_area(fixes.latitude_deg, fixes.longitude_deg) & valid
    tones = np.array(["tone" in label for label in batch.labels])
    if (outside & tones).any():
        row = int(np.flatnonzero(outside & tones)[0])
        report.warn(
            PLAUSIBLE,
            f"{(outside & tones).sum()} of {tones.sum()} made-up tones are located outside the area, such as at "
            f"{fixes.latitude_deg[row]:.4f}, {fixes.longitude_deg[row]:.4f}",
            "if golden vectors with real recordings lie inside, this may be right; else compare position/frame, axes "
            "(order), scale and offset with training",
            outside=int((outside & tones).sum()),
        )
    else:
        report.ok(PLAUSIBLE, f"all {tones.sum()} made-up tones are located inside the area")


def _check_uncertainty(fixes: Fixes, report: Report) -> None:
    sigma = principal_axes(fixes.covariance_m2[_valid(fixes)])
    low, high = float(sigma.sigma_minor_m.min()), float(sigma.sigma_major_m.max())
    found = f"1 sigma is {metres(low)} to {metres(high)}"
    if low >= _NARROWEST_M and high <= _WIDEST_M:
        report.ok(UNCERTAINTY, found, least_m=low, greatest_m=high)
        return
    report.warn(
        UNCERTAINTY,
        f"{found}: is the unit right?",
        "it must be the unit of the raw position output; see uncertainty/kind, of and scale",
        least_m=low,
        greatest_m=high,
    )


def _check_batch(subject: Subject, batch: Batch, together: Fixes, report: Report) -> None:
    """One item alone must be what it is among others."""
    shift, widening, differing = np.zeros(len(batch)), np.zeros(len(batch)), []
    for row, label in enumerate(batch.labels):
        try:
            _, alone = subject.run(batch.part([row]))
        except (RuntimeError, ValueError) as error:
            report.fail(BATCH, f"{label} runs in a batch of {len(batch)}, but not alone: {error}", _BATCH_REMEDY)
            return
        if (alone.faults[0] is None) != (together.faults[row] is None):
            differing.append(label)
        elif alone.faults[0] is None:
            shift[row], widening[row] = _difference(together, row, alone)
    _judge_batch(batch, together, shift, widening, differing, report)


_BATCH_REMEDY: Final = (
    "something in the graph depends on the other items: batch statistics (export in eval mode), a reduction or softmax "
    "over axis 0, a reshape with a fixed size"
)


def _judge_batch(
    batch: Batch,
    fixes: Fixes,
    shift: NDArray[np.float64],
    widening: NDArray[np.float64],
    differing: list[str],
    report: Report,
) -> None:
    with np.errstate(all="ignore"):
        narrowest = np.where(_valid(fixes), principal_axes(fixes.covariance_m2).sigma_minor_m, 0.0)
    excess = np.maximum(shift / np.maximum(_SHIFT_M, _SHIFT_OF_SIGMA * narrowest), widening / _WIDENING)
    worst = int(np.argmax(excess))
    found = (
        f"alone and in a batch of {len(batch)}: positions differ by at most {metres(float(shift.max()))}, "
        f"sigmas by {100 * widening.max():.2g} %"
    )
    figures = {"shift_m": float(shift.max()), "sigma_change": float(widening.max()), "items": len(batch)}
    if differing:
        report.fail(BATCH, f"only alone, or only among others, a fix: {_list(differing)}", _BATCH_REMEDY, **figures)
    elif excess[worst] > 1.0:
        report.fail(
            BATCH, f"{found}; allowed are 1 m or 1 % of sigma (worst: {batch.labels[worst]})", _BATCH_REMEDY, **figures
        )
    else:
        report.ok(BATCH, found, **figures)


def _difference(together: Fixes, row: int, alone: Fixes) -> tuple[float, float]:
    """Metres between two fixes, and the relative change of the larger sigma."""
    distance = geodesic_distance_m(
        together.latitude_deg[row], together.longitude_deg[row], alone.latitude_deg[0], alone.longitude_deg[0]
    )
    sigmas = principal_axes(np.stack([together.covariance_m2[row], alone.covariance_m2[0]]))
    changes = [abs(axis[1] - axis[0]) / axis[0] for axis in (sigmas.sigma_major_m, sigmas.sigma_minor_m)]
    return float(distance), float(max(changes))


def _valid(fixes: Fixes) -> NDArray[np.bool_]:
    return np.array([fault is None for fault in fixes.faults])


def _list(labels: list[str]) -> str:
    names = list(dict.fromkeys(labels))
    return "; ".join(names[:_SHOWN]) + (f"; … ({len(names)} kinds)" if len(names) > _SHOWN else "")
