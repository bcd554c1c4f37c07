"""Options of `heimdall ctl`, named once, and what their values must look like."""

import re
from collections.abc import Callable
from typing import Annotated, Final

import typer

from client.commands.parameters import DEFAULT_URL, Url

DEFAULT_TRACKING_URI: Final = "http://127.0.0.1:5000"
DEFAULT_NAME: Final = "heimdall"
DEFAULT_TIMEOUT_S: Final = 60.0
"""Longer than a version may take to prove itself (HEIMDALL_PROOF_TIMEOUT_S)."""

_REGISTRY: Final = "Registry"


def _matching(pattern: str, demand: str) -> Callable[[str | None], str | None]:
    """A check of an argument, made before anything is asked of anybody."""
    compiled = re.compile(pattern)

    def check(value: str | None) -> str | None:
        if value is not None and compiled.fullmatch(value) is None:
            raise typer.BadParameter(f"{value!r:.80}: {demand}")
        return value

    return check


_version = _matching(
    "[1-9][0-9]{0,11}", "a version is named by its number in the registry, such as 7; never by a URL or a path"
)
_instance = _matching("(?!all$)[A-Za-z0-9_.-]{1,128}", "an instance is named by letters, digits and _ . -")
_name = _matching("[A-Za-z0-9_.-]{1,64}", "a registered model is named by letters, digits and _ . -")

Version = Annotated[str, typer.Argument(metavar="VERSION", callback=_version, help="Its number in the registry.")]
OptionalVersion = Annotated[
    str | None, typer.Argument(metavar="[VERSION]", callback=_version, help="Its number in the registry.")
]
Weight = Annotated[
    float | None,
    typer.Option("--weight", metavar="PERCENT", help="Share of the sessions, above 0 and at most 100."),
]
Off = Annotated[bool, typer.Option("--off", help="End it.")]
Report = Annotated[
    bool, typer.Option("--report", help="Follow heimdall.events, and end with a line of figures of the promotion.")
]
Reason = Annotated[str, typer.Option("--reason", help="Kept in the registry's tag, with your user.")]
Instance = Annotated[
    str | None,
    typer.Option("--instance", metavar="NAME", callback=_instance, help="Address one worker, and leave the registry."),
]
TrackingUri = Annotated[
    str,
    typer.Option("--tracking-uri", envvar="HEIMDALL_MLFLOW_TRACKING_URI", help="Of MLflow.", rich_help_panel=_REGISTRY),
]
Name = Annotated[
    str,
    typer.Option(
        "--name",
        envvar="HEIMDALL_MODEL_NAME",
        callback=_name,
        help="Of the registered model.",
        rich_help_panel=_REGISTRY,
    ),
]
Timeout = Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds until the fleet must agree.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

__all__ = ["DEFAULT_URL", "Url"]
