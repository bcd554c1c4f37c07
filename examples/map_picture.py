"""A map of a demo run: receivers, true positions, fixes and their ellipses. Drawn offline, without tiles."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import matplotlib as mpl
import numpy as np
import shapely
from matplotlib import patheffects
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from examples.map_furniture import INK, KM, MUTED, PAPER, canvas, graticule, north_arrow, scale_bar
from examples.network import Array, Network

DPI: Final = 160
LAND: Final = "#f1ede2"
BORDER: Final = "#b3a98f"
ELLIPSE: Final = "#2a6f97"
FIX: Final = "#c8452f"
TRUTH: Final = "#1b1b1e"
RECEIVER: Final = "#2f6b3f"
# Sixty overlapping ellipses must not hide the map: together their fills give at most this opacity.
MOST_OPACITY: Final = 0.45
# Closer than this share of the map's width, two labels would collide.
LABEL_GAP: Final = 0.05


class Run(NamedTuple):
    """Results in kilometres: fixes (n, 2), truths (n, 2), and rings of ellipses by confidence, n of each."""

    fixes: Array
    truths: Array
    ellipses: dict[float, list[Array]]

    @property
    def levels(self) -> list[float]:
        """Confidences, the largest first."""
        return sorted(self.ellipses, reverse=True)


def draw(results: dict[str, Any], truths: Sequence[tuple[float, float]], network: Network, path: Path) -> None:
    """Draw the results of a run.

    Args:
        results: GeoJSON FeatureCollection of fixes and ellipses, as the worker's results hold them.
        truths: latitude and longitude of the transmitters, degrees, in the order of the fixes.
        network: whose receivers and area are shown.
        path: of the picture; its suffix decides the format.
    """
    run = read(results, truths, network)
    with mpl.rc_context({"font.family": "DejaVu Sans", "font.size": 9}):
        figure, axes = canvas(network, np.concatenate([run.fixes, run.truths]))
        graticule(axes, network)
        _draw_area(axes, network)
        _draw_ellipses(axes, run)
        _draw_fixes(axes, run)
        _draw_receivers(axes, network)
        scale_bar(axes)
        north_arrow(axes)
        _draw_title(figure, axes, network, summary(run))
        _draw_legend(axes, run)
        figure.savefig(path, dpi=DPI, facecolor=PAPER)


def read(results: dict[str, Any], truths: Sequence[tuple[float, float]], network: Network) -> Run:
    """What a FeatureCollection says, in the network's frame."""
    features = results["features"]
    fixes = [f["geometry"]["coordinates"][:2] for f in features if f["properties"]["kind"] == "fix"]
    ellipses: dict[float, list[Array]] = {}
    for feature in features:
        if feature["properties"]["kind"] == "ellipse":
            ring = np.array(feature["geometry"]["coordinates"][0], dtype=float)[:, :2]
            ellipses.setdefault(feature["properties"]["confidence"], []).append(network.to_enu_m(ring) * KM)
    lon_lat = [(longitude, latitude) for latitude, longitude in truths]
    return Run(_km(fixes, network), _km(lon_lat, network), ellipses)


def summary(run: Run) -> str:
    """One line: how many, how far, how well covered."""
    if not len(run.fixes):
        return "no fixes"
    error_km = np.hypot(*(run.fixes - run.truths).T)
    line = f"{len(run.fixes)} transmitters, median error {np.median(error_km):.1f} km"
    if not run.levels or len(run.ellipses[run.levels[0]]) != len(run.truths):
        return line
    rings = shapely.polygons([shapely.linearrings(ring) for ring in run.ellipses[run.levels[0]]])
    inside = int(np.sum(shapely.contains_xy(rings, run.truths)))
    return f"{line}, {inside} inside their {run.levels[0]:.0%} ellipse"


def _km(lon_lat: Sequence[Sequence[float]], network: Network) -> Array:
    return network.to_enu_m(np.array(lon_lat, dtype=float).reshape(-1, 2)) * KM


def _draw_area(axes: Axes, network: Network) -> None:
    ring = np.asarray(network.area.exterior.coords) * KM
    axes.fill(ring[:, 0], ring[:, 1], facecolor=LAND, edgecolor="none", zorder=0)
    axes.plot(ring[:, 0], ring[:, 1], color=BORDER, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1.5)


def _draw_ellipses(axes: Axes, run: Run) -> None:
    """All ellipses, those of the largest confidence lowest and faintest."""
    for rank, level in enumerate(run.levels):
        face, edge, width = _ellipse_style(rank, _overlap(run.ellipses[level]))
        drawn = PolyCollection(
            run.ellipses[level], facecolors=[face], edgecolors=[edge], linewidths=width, zorder=2 + 0.1 * rank
        )
        axes.add_collection(drawn, autolim=False)


def _overlap(rings: list[Array]) -> float:
    """How many ellipses lie over each other on average where there are any; at least 1."""
    polygons = shapely.polygons([shapely.linearrings(ring) for ring in rings])
    return max(1.0, float(shapely.area(polygons).sum() / shapely.union_all(polygons).area)) if len(rings) else 1.0


def _ellipse_style(rank: int, overlap: float) -> tuple[tuple[float, ...], tuple[float, ...], float]:
    """Face and edge colour and line width of the ellipses of one confidence, the largest being rank 0."""
    face = 1.0 - (1.0 - MOST_OPACITY) ** (1.0 / (3.0 * overlap + 1.0))
    edge = min(0.8, (0.5, 0.85)[min(rank, 1)] / overlap**0.35)
    return to_rgba(ELLIPSE, face), to_rgba(ELLIPSE, edge), (0.6, 0.8)[min(rank, 1)]


def _draw_fixes(axes: Axes, run: Run) -> None:
    pairs = list(np.stack([run.fixes, run.truths], axis=1))
    halo = [patheffects.withStroke(linewidth=2.2, foreground=PAPER, alpha=0.7)]
    lines = LineCollection(pairs, colors=INK, linewidths=0.9, zorder=4, path_effects=halo)
    axes.add_collection(lines, autolim=False)
    axes.scatter(run.truths[:, 0], run.truths[:, 1], s=28, marker="x", color=TRUTH, linewidths=1.4, zorder=5)
    axes.scatter(
        run.fixes[:, 0], run.fixes[:, 1], s=24, marker="o", color=FIX, edgecolors="white", linewidths=0.7, zorder=6
    )


def _draw_receivers(axes: Axes, network: Network) -> None:
    sites_km = network.site_positions_m[:, :2] * KM
    axes.scatter(
        sites_km[:, 0], sites_km[:, 1], s=66, marker="^", color=RECEIVER, edgecolors="white", linewidths=0.9, zorder=7
    )
    gap = LABEL_GAP * np.ptp(axes.get_xlim())
    for site, place in zip(network.sites, sites_km, strict=True):
        offset = place - sites_km
        crowded = bool(np.any((np.hypot(*offset.T) < gap) & (offset[:, 1] < 0)))
        _label(axes, site.id, place, below=crowded)


def _label(axes: Axes, text: str, place: Array, *, below: bool) -> None:
    label = axes.annotate(
        text,
        tuple(place),
        xytext=(0, -7 if below else 7),
        textcoords="offset points",
        ha="center",
        va="top" if below else "bottom",
        fontsize=7.5,
        color=RECEIVER,
        weight="bold",
        zorder=8,
    )
    label.set_path_effects([patheffects.withStroke(linewidth=2.4, foreground=PAPER, alpha=0.9)])


def _draw_title(figure: Figure, axes: Axes, network: Network, line: str) -> None:
    frame, height = axes.get_position(), figure.get_figheight()
    detail = f"Simulated: {line}; {network.frequency_hz / 1e6:g} MHz, from received powers"
    title = f"{network.title} (simulated)"
    figure.text(frame.x0, frame.y1 + 0.4 / height, title, fontsize=15, color=INK, weight="bold", va="bottom")
    figure.text(frame.x0, frame.y1 + 0.14 / height, detail, fontsize=10, color=MUTED, va="bottom")


def _draw_legend(axes: Axes, run: Run) -> None:
    handles: list[Artist] = [
        Line2D([], [], marker="^", ls="", mfc=RECEIVER, mec="white", ms=9, label="receiver"),
        Line2D([], [], marker="x", ls="", mec=TRUTH, mew=1.4, label="true position"),
        Line2D([], [], marker="o", color=INK, lw=0.9, mfc=FIX, mec="white", ms=6.5, label="fix, joined to its truth"),
    ]
    for rank, level in enumerate(run.levels):
        face, edge = to_rgba(ELLIPSE, 0.08 + 0.14 * rank), to_rgba(ELLIPSE, 0.5 + 0.3 * rank)
        handles.append(Patch(facecolor=face, edgecolor=edge, label=f"{level:.0%} ellipse"))
    handles.append(Line2D([], [], color=BORDER, lw=0.9, ls=(0, (4, 3)), label="area of transmitters"))
    style: dict[str, Any] = {"frameon": False, "fontsize": 8.5, "handletextpad": 0.5, "columnspacing": 1.4}
    axes.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.045), ncols=len(handles), labelcolor=INK, **style
    )
