"""Pictures of an evaluation: errors, calibration, and the map of fixes with their ellipses."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from client.errors import CaptureError, HeimdallError
from client.evaluation.geodesic import offset_m
from client.evaluation.report import Evaluation
from client.evaluation.scoring import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EXTRA: Final = "heimdall-worker[plots]"
_HELD, _MISSED, _TRUTH, _FIX = "#2a7f62", "#c1442d", "#222222", "#3a6ea5"
_PIT_BINS: Final = 20
_RING: Final = np.linspace(0.0, 2.0 * np.pi, 73)
_ELLIPSE: Final = 0.9
_MOST_DRAWN: Final = 200
"""More ellipses than this hide each other: a sample, evenly spaced through the scenes, is drawn."""


class PlotsUnavailable(HeimdallError):
    """The plotting library is not installed."""


def draw_all(evaluation: Evaluation, directory: Path) -> list[Path]:
    """Draw every picture.

    Args:
        evaluation: of scenes.
        directory: exists; gets `errors.png`, `pit.png`, `error-map.png` and `ellipse-map.png`.

    Returns:
        The files; none where nothing was located.

    Raises:
        PlotsUnavailable: matplotlib is not installed.
        CaptureError: a file cannot be written.
    """
    if find_spec("matplotlib") is None:
        raise PlotsUnavailable(f"no plots: matplotlib is not installed (pip install '{EXTRA}'); the report is complete")
    if not evaluation.located:
        return []
    pictures = {
        "errors.png": _errors(evaluation),
        "pit.png": _pit(evaluation),
        "error-map.png": _error_map(evaluation),
        "ellipse-map.png": _ellipse_map(evaluation),
    }
    return [_save(figure, directory / name) for name, figure in pictures.items()]


def _figure(width: float, height: float) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _save(figure: "Figure", path: Path) -> Path:
    try:
        figure.savefig(path, dpi=100)
    except OSError as error:
        raise CaptureError(f"--out {path}: {error.strerror}") from None
    return path


def _errors(evaluation: Evaluation) -> "Figure":
    figure, axes = _figure(7, 4.2)
    error_m = np.sort(evaluation.scores.error_m)
    axes.plot(error_m, np.arange(1, error_m.size + 1) / error_m.size, color=_FIX, linewidth=2)
    for name, share in (("median_m", 0.5), ("p90_m", 0.9)):
        estimate = evaluation.estimates[name]
        axes.plot([estimate.low, estimate.high], [share, share], color=_TRUTH, linewidth=1.5)
        axes.plot([estimate.value], [share], "o", color=_TRUTH)
        axes.annotate(f"  {estimate.value:.3g} m", (estimate.high, share), va="center")
    axes.set(xlabel="error, m", ylabel="share of scenes", ylim=(0, 1), xlim=(0, float(np.quantile(error_m, 0.99))))
    axes.set_title(f"Error of {error_m.size} fixes; bars: 95 % intervals")
    axes.grid(alpha=0.3)
    return figure


def _pit(evaluation: Evaluation) -> "Figure":
    figure, axes = _figure(7, 4.2)
    pit = evaluation.scores.pit
    counts, edges = np.histogram(pit, _PIT_BINS, (0.0, 1.0))
    axes.bar(edges[:-1], counts * _PIT_BINS / pit.size, np.diff(edges), align="edge", color=_FIX, alpha=0.75)
    axes.axhline(1.0, color=_TRUTH, linewidth=1)
    axes.set(xlabel="PIT: confidence of the ellipse through the truth", ylabel="density", xlim=(0, 1))
    axes.set_title(f"Flat at 1 = calibrated; right-heavy = ellipses too small (KS {evaluation.figures['pit_ks']:.3f})")
    return figure


def _error_map(evaluation: Evaluation) -> "Figure":
    figure, axes = _figure(8, 7.5)
    truth, fix = _places(evaluation)
    error_m = evaluation.scores.error_m
    _draw_lines(axes, np.stack([truth, fix], axis=1), _FIX, 0.4)
    limit = float(np.quantile(error_m, 0.95)) or 1.0
    dots = axes.scatter(truth[:, 0], truth[:, 1], c=error_m, s=9, cmap="viridis", vmin=0, vmax=limit, zorder=2)
    figure.colorbar(dots, ax=axes, label="error, m", shrink=0.8)
    _finish(axes, "Truth, coloured by error; lines lead to the fix", truth)
    return figure


def _ellipse_map(evaluation: Evaluation) -> "Figure":
    figure, axes = _figure(8, 7.5)
    truth, fix = _places(evaluation)
    held = evaluation.scores.covered(_ELLIPSE)
    chosen = np.unique(np.linspace(0, len(fix) - 1, min(len(fix), _MOST_DRAWN)).round().astype(int))
    rings = _rings(fix, evaluation.scores.covariance_m2)
    for inside, colour, label in ((True, _HELD, "truth inside"), (False, _MISSED, "truth outside")):
        rows = chosen[held[chosen] == inside]
        _draw_lines(axes, rings[rows], colour, 0.6)
        axes.plot(truth[rows, 0], truth[rows, 1], ".", color=colour, markersize=4, label=label)
    axes.legend(loc="upper right")
    _finish(axes, f"{_ELLIPSE:.0%} ellipses of {chosen.size} of {len(fix)} fixes, and the truth", truth)
    return figure


def _draw_lines(axes: "Axes", lines: Array, colour: str, width: float) -> None:
    """Lines (n, points, 2), as one artist: thousands of single ones take half a minute."""
    from matplotlib.collections import LineCollection  # noqa: PLC0415 - an extra

    axes.add_collection(LineCollection(list(lines), colors=colour, linewidths=width, alpha=0.45, zorder=1))


def _rings(fix: Array, covariance_m2: Array) -> Array:
    """Ellipses about fixes, metres (n, points, 2): k·L·[cos t, sin t] with L the Cholesky factor."""
    k = np.sqrt(-2 * np.log1p(-_ELLIPSE))
    circle = np.stack([np.cos(_RING), np.sin(_RING)])
    return np.asarray(fix[:, np.newaxis] + k * np.swapaxes(np.linalg.cholesky(covariance_m2) @ circle, 1, 2))


def _places(evaluation: Evaluation) -> tuple[Array, Array]:
    """Truths and fixes east and north of the truths' middle, metres (n, 2) each."""
    truth_deg = np.array([(scene.truth.latitude, scene.truth.longitude) for scene in evaluation.located])
    middle = np.median(truth_deg, axis=0)
    truth_m = np.column_stack(offset_m(middle[0], middle[1], truth_deg[:, 0], truth_deg[:, 1]))
    return truth_m, truth_m - evaluation.scores.offset_m


def _finish(axes: "Axes", title: str, truth_m: Array) -> None:
    low, high = truth_m.min(axis=0), truth_m.max(axis=0)
    margin = 0.15 * float((high - low).max()) + 1.0
    axes.set(xlim=(low[0] - margin, high[0] + margin), ylim=(low[1] - margin, high[1] + margin))
    axes.set(xlabel="east, m", ylabel="north, m", title=title)
    axes.set_aspect("equal", adjustable="box")
    axes.grid(alpha=0.3)
