"""The `heimdall` command.

A command is a module of `client.commands`, registered here, or a typer app that an installed distribution names in
the entry-point group `heimdall.commands`. The worker's commands come in that way: the client knows nothing of them.
"""

from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from typing import Annotated, Final

import typer

from client.commands.evaluate import evaluate_command
from client.commands.follow import follow_command
from client.commands.locate import locate
from client.commands.map import map_command
from client.commands.publish import publish
from client.commands.result import result

app = typer.Typer(
    name="heimdall",
    help="Locate radio transmitters from IQ recordings.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # A local may hold the broker's password.
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(
    epilog="Exit codes: 0 all located; 1 answered with an error; 2 wrong input, nothing sent; 3 no answer from the "
    "broker or the worker. Example: heimdall locate --rate 2.4M --freq 433.92M --rx Roof=45.044,7.672 door.cu8"
)(locate)
app.command(
    name="evaluate",
    epilog="Exit codes: 0 evaluated; 1 a --fail-if holds, or a scene got no fix; 2 wrong input, nothing sent; 3 no "
    'answer from the broker. Example: heimdall evaluate drives/ --out out/eval --fail-if "coverage90<0.8"',
)(evaluate_command)
app.command(
    epilog="Exit codes: 0 all confirmed; 1 a worker refuses the first window; 2 wrong input, nothing sent; 3 the "
    "broker does not take a job; 130 Ctrl-C. Example: heimdall publish --window-ms 200 --rate 5 drive.sigmf-collection"
)(publish)
app.command(
    name="follow",
    epilog="Exit codes: 0 ended as asked; 1 --count is reached, with failures; 2 wrong option; 3 no broker, or "
    "--timeout before --count. Example: heimdall follow --session drive --geojson-seq > fixes.geojsons",
)(follow_command)
app.command(
    name="map",
    epilog="Exit codes: 0 ended by Ctrl-C; 2 wrong option, or NiceGUI is absent; 3 no broker. "
    "Example: heimdall map --port 8080 --keep 200",
)(map_command)
app.command(
    epilog="Exit codes: 0 all located; 1 one ended with an error; 2 wrong input; 3 no outcome is stored, or Redis does "
    "not answer. Example: heimdall result --wait 5 --geojson drive-2d94d5094163-000001"
)(result)

PLUGINS: Final = "heimdall.commands"
WORKER: Final = "heimdall-worker[worker]"
EXIT_USAGE: Final = 2


def add_plugins(to: typer.Typer) -> None:
    """Add the commands of the entry-point group; one that cannot be loaded says what to install."""
    for point in sorted(entry_points(group=PLUGINS)):
        try:
            to.add_typer(point.load(), name=point.name)
        except ImportError as error:
            _add_missing(to, point, error)


def _add_missing(to: typer.Typer, point: EntryPoint, error: ImportError) -> None:
    summary = f"Not available here: pip install '{WORKER}'"

    def missing() -> None:
        typer.echo(f"heimdall {point.name} needs more than the client ({error}): pip install '{WORKER}'", err=True)
        raise typer.Exit(EXIT_USAGE)

    anything = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
    to.command(name=point.name, help=summary, context_settings=anything)(missing)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer's callback
    if wanted:
        typer.echo(_version())
        raise typer.Exit


def _version() -> str:
    try:
        return version("heimdall-worker")
    except PackageNotFoundError:
        return "not installed: run from a checkout"


@app.callback()
def main(
    *,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Locate radio transmitters from IQ recordings."""


add_plugins(app)

if __name__ == "__main__":
    app()
