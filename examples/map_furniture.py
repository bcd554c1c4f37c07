"""What surrounds the data on a map: canvas, graticule, scale bar, north arrow. Axes are kilometres east and north."""

from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from examples.network import Array, Network

KM: Final = 1e-3
PAPER: Final = "#fbfaf6"
GRATICULE: Final = "#d9d3c4"
INK: Final = "#2b2f36"
MUTED: Final = "#757a82"

_WIDTH_INCHES: Final = 10.0
_HEAD_INCHES: Final = 0.85
_FOOT_INCHES: Final = 0.95
_SIDE_INCHES: Final = 0.65
_MARGIN: Final = 0.05
_STEPS_DEG: Final = (0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0)
_MOST_LINES: Final = 8
_BARS_KM: Final = (1, 2, 5, 10, 20, 50, 100, 200)


def canvas(network: Network, points_km: Array) -> tuple[Figure, Axes]:
    """A figure whose axes hold the network's area and every point (n, 2), at one scale in both directions."""
    bounds_km = np.array(network.area.bounds).reshape(2, 2) * KM
    margin = _MARGIN * np.ptp(bounds_km, axis=0).max()
    low = np.minimum(bounds_km[0], points_km.min(axis=0, initial=np.inf)) - margin
    high = np.maximum(bounds_km[1], points_km.max(axis=0, initial=-np.inf)) + margin
    width, height = _WIDTH_INCHES, (_WIDTH_INCHES - 2 * _SIDE_INCHES) * (high - low)[1] / (high - low)[0]
    total = height + _HEAD_INCHES + _FOOT_INCHES
    figure = Figure(figsize=(width, total))
    axes = figure.add_axes(
        (_SIDE_INCHES / width, _FOOT_INCHES / total, 1 - 2 * _SIDE_INCHES / width, height / total), facecolor=PAPER
    )
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
    axes.tick_params(length=0, labelsize=8, labelcolor=MUTED)
    for spine in axes.spines.values():
        spine.set(color=GRATICULE, linewidth=0.8)
    return figure, axes


def graticule(axes: Axes, network: Network) -> None:
    """Meridians and parallels at round degrees, labelled where they meet the frame."""
    (west, east), (south, north) = axes.get_xlim(), axes.get_ylim()
    corners = np.array([(x, y) for x in (west, east) for y in (south, north)]) / KM
    lon_lat = network.to_wgs84(corners)
    low, high = lon_lat.min(axis=0), lon_lat.max(axis=0)
    longitudes, latitudes = _round_degrees(low, high)
    meridians = [_line_km(network, (lon, low[1]), (lon, high[1])) for lon in longitudes]
    parallels = [_line_km(network, (low[0], lat), (high[0], lat)) for lat in latitudes]
    lines = LineCollection([*meridians, *parallels], colors=GRATICULE, linewidths=0.6, zorder=1)
    axes.add_collection(lines, autolim=False)
    at_bottom = [float(np.interp(south, line[:, 1], line[:, 0])) for line in meridians]
    at_left = [float(np.interp(west, line[:, 0], line[:, 1])) for line in parallels]
    axes.set_xticks(at_bottom, [f"{abs(lon):.4g}° {'E' if lon >= 0 else 'W'}" for lon in longitudes])
    axes.set_yticks(at_left, [f"{abs(lat):.4g}° {'N' if lat >= 0 else 'S'}" for lat in latitudes])
    axes.tick_params(axis="y", labelrotation=90)
    for label in axes.get_yticklabels():
        label.set_verticalalignment("center")
    axes.set(xlim=(west, east), ylim=(south, north))


def scale_bar(axes: Axes) -> None:
    """A bar of four parts in the lower right corner."""
    (west, east), (south, north) = axes.get_xlim(), axes.get_ylim()
    length = max((bar for bar in _BARS_KM if bar <= 0.22 * (east - west)), default=_BARS_KM[0])
    left, bottom = east - 0.05 * (east - west) - length, south + 0.025 * (north - south)
    thickness = 0.007 * (north - south)
    for part in range(4):
        start, colour = left + part * length / 4, (INK, "white")[part % 2]
        corners_x = [start, start + length / 4, start + length / 4, start]
        corners_y = [bottom, bottom, bottom + thickness, bottom + thickness]
        axes.fill(corners_x, corners_y, facecolor=colour, edgecolor=INK, linewidth=0.7, zorder=9)
    for at, text in ((left, "0"), (left + length, f"{length} km")):
        axes.text(at, bottom + 1.8 * thickness, text, ha="center", va="bottom", fontsize=8, color=INK, zorder=9)


def north_arrow(axes: Axes) -> None:
    """An arrow to the north of the network's origin, in the upper right corner."""
    arrow = {"arrowstyle": "-|>", "color": INK, "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=(0.97, 0.955), xytext=(0.97, 0.895), xycoords="axes fraction", arrowprops=arrow, zorder=9)
    axes.text(
        0.97, 0.96, "N", transform=axes.transAxes, ha="center", va="bottom", fontsize=10, color=INK, weight="bold"
    )


def _round_degrees(low: Array, high: Array) -> tuple[Array, Array]:
    """Longitudes and latitudes at the finest round step that gives few lines."""
    step = next((s for s in _STEPS_DEG if np.ptp([low, high], axis=0).max() < _MOST_LINES * s), _STEPS_DEG[-1])
    first, last = np.ceil(low / step), np.floor(high / step)
    return np.arange(first[0], last[0] + 1) * step, np.arange(first[1], last[1] + 1) * step


def _line_km(network: Network, start: tuple[float, float], end: tuple[float, float]) -> Array:
    """A line of constant longitude or latitude (points, 2)."""
    return network.to_enu_m(np.linspace(start, end, 40)) * KM
