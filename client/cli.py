"""The `heimdall` command. A command is a module of `client.commands`, registered here."""

from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from client.commands.locate import locate

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


if __name__ == "__main__":
    app()
