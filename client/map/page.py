"""The page: a Leaflet map, and beside it workers, models, sessions and errors. Needs NiceGUI (extra `map`).

The map asks for what is new and says what it has got; one update is under way per page, so that a slow or hidden page
falls behind instead of filling memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from nicegui import app, events, ui
from nicegui.element import Element

from client.map.hearing import Heard
from client.map.panels import error_rows, model_rows, problem_lines, session_rows, status, worker_note, worker_rows

_HERE: Final = Path(__file__).parent
_STATIC: Final = "/heimdall-map"
_MAP_EVERY_S: Final = 0.25
_PANELS_EVERY_S: Final = 1.0
_ANSWER_WITHIN_S: Final = 10.0
_WORLD_ZOOM: Final = 2
_STYLE: Final = (_HERE / "static" / "map.css").read_text(encoding="utf-8")
_COLOURED: Final = """
<q-td :props="props"><span class="dot" :class="`colour-${props.row.colour}`"></span>{{ props.value }}</q-td>
"""
_CLASSES: Final = {"job": "id", "last": "brief", "heard": "brief", "results": "brief", "fixes": "brief"}

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tiles:
    """A tile server beneath the map instead of coast and borders alone.

    Attributes:
        url: with {z}, {x} and {y}; empty for none.
        attribution: as the server's owner wants it shown.
    """

    url: str = ""
    attribution: str = ""


class LiveMap(Element, component="live_map.js"):
    """What is drawn on a Leaflet map.

    Args:
        leaflet: the map.
        tiles: what lies beneath.
    """

    def __init__(self, leaflet: ui.leaflet, tiles: Tiles) -> None:
        super().__init__()
        self._props["mapId"] = leaflet.id
        self._props["world"] = f"{_STATIC}/world.geojson"
        self._props["tiles"] = tiles.url
        self._props["attribution"] = tiles.attribution


def serve_page(heard: Heard, tiles: Tiles) -> None:
    """Let NiceGUI serve the page at `/`."""
    app.add_static_files(_STATIC, _HERE / "static")

    @ui.page("/", title="Heimdall: live map")
    def page() -> None:
        ui.add_css(_STYLE)
        ui.query(".nicegui-content").classes("p-0 gap-0")
        with ui.row(wrap=False).classes("map-page w-full gap-0 items-stretch"):
            leaflet = ui.leaflet(center=(30.0, 10.0), zoom=_WORLD_ZOOM, options={"preferCanvas": True})
            leaflet.clear_layers()  # NiceGUI begins with a public tile server.
            leaflet.classes("grow map-canvas")
            drawing = LiveMap(leaflet, tiles)
            with ui.column(wrap=False).classes("map-side gap-2"):
                _side(heard, drawing)
        ui.timer(0.0, lambda: _keep_drawing(leaflet, drawing, heard), once=True)


async def _keep_drawing(leaflet: ui.leaflet, drawing: LiveMap, heard: Heard) -> None:
    """Draw until the page is closed."""
    await leaflet.initialized()
    await drawing.run_method("start", timeout=_ANSWER_WITHIN_S)
    seen = 0

    async def draw() -> None:
        nonlocal seen
        news = heard.state.since(seen)
        if news is None:
            return
        try:
            answer = await drawing.run_method("update", news.decode(), timeout=_ANSWER_WITHIN_S)
        except TimeoutError:
            return  # A page asleep; the same is offered again, and what it has it skips.
        seen = answer if isinstance(answer, int) else seen

    with drawing.parent_slot.parent if drawing.parent_slot else drawing:
        ui.timer(_MAP_EVERY_S, draw)


def _side(heard: Heard, drawing: LiveMap) -> None:
    """Everything beside the map, told anew every second."""
    with ui.row().classes("w-full items-center gap-2"):
        ui.label("Heimdall").classes("text-h6 grow")
        ui.label("Ellipses")
        choice = ui.toggle(["newest", "all", "none"], value="newest").props("dense no-caps size=sm padding='2px 8px'")
        choice.tooltip("Which are drawn; a click on a fix shows its own")
        choice.on_value_change(lambda event: drawing.run_method("showEllipses", event.value))
    link = ui.label().classes("map-link")
    workers = _table(
        "Workers", [("worker", "Worker"), ("state", "State"), ("serves", "Serves"), ("heard", "Heard")], mark="worker"
    )
    note = ui.label().classes("map-note")
    models = _table("Models, by their results", [("model", "Model"), ("results", "Results"), ("last", "Last")])
    sessions = _table("Sessions", [("session", "Session"), ("fixes", "Fixes"), ("last", "Last")], mark="session")
    sessions.classes("cursor-pointer")
    sessions.on("rowClick", lambda event: drawing.run_method("goTo", event.args[1]["id"]), [[], ["id"], None])
    failures = _table("Errors", [("job", "Job"), ("error", "Error"), ("last", "Last")], mark="error")
    failures.classes("cursor-pointer")
    failures.on("rowClick", lambda event: _show_problem(event, heard), [[], ["id"], None])

    def tell() -> None:
        now_s = heard.now_s()
        said, well = status(heard, now_s)
        link.set_text(said)
        link.classes(replace=f"map-link {'text-positive' if well else 'text-negative'}")
        note.set_text(worker_note(heard.workers))
        _fill(workers, worker_rows(heard.workers, now_s))
        _fill(models, model_rows(heard.state, now_s))
        _fill(sessions, session_rows(heard.state, now_s))
        _fill(failures, error_rows(heard.state, now_s))

    ui.timer(_PANELS_EVERY_S, tell)


def _table(title: str, columns: Sequence[tuple[str, str]], mark: str = "") -> ui.table:
    named: list[Row] = [
        {"name": name, "label": label, "field": name, "align": "left", "classes": _CLASSES.get(name, "")}
        for name, label in columns
    ]
    table = ui.table(columns=named, rows=[], row_key="id", title=title)
    table.props('dense flat bordered hide-bottom wrap-cells :rows-per-page-options="[0]"').classes("w-full map-table")
    if mark:
        table.classes(f"map-{mark}s")
    if mark == "session":
        table.add_slot("body-cell-session", _COLOURED)
    return table


def _fill(table: ui.table, rows: list[Row]) -> None:
    """Send rows only where they differ from what the page has."""
    table.set_visibility(bool(rows))
    if table.rows != rows:
        table.rows = rows


def _show_problem(event: events.GenericEventArguments, heard: Heard) -> None:
    number = event.args[1]["id"]
    found = [failure for failure in heard.state.failures if failure.number == number]
    if not found:
        return
    with ui.dialog(value=True) as dialog, ui.card().classes("map-problem"):
        dialog.on("hide", dialog.delete)
        for line in problem_lines(found[0].problem):
            ui.label(line)
