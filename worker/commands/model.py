"""`heimdall model check | register | init`: from an ONNX file to a version that workers serve.

Exit codes: 0 nothing failed; 1 a check failed; 2 wrong input, or the registry does not answer.

This module is imported by every `heimdall` command, so what it needs of the worker is imported when a command runs.
"""

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer
from rich.console import Console

# The client alone has none of these; the command line then says what to install.
for _library in ("onnxruntime", "mlflow", "shapely", "pyproj"):
    if find_spec(_library) is None:
        raise ModuleNotFoundError(f"No module named {_library!r}", name=_library)

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2


class Alias(StrEnum):
    """The part a version plays."""

    PRODUCTION = "production"
    CANARY = "canary"
    SHADOW = "shadow"
    NONE = "none"


app = typer.Typer(
    help="Check, register and describe localisation models.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Source = Annotated[
    str, typer.Argument(metavar="MODEL", help="An .onnx file, models:/NAME@ALIAS or models:/NAME/VERSION.")
]
File = Annotated[Path, typer.Argument(metavar="FILE", help="The .onnx file.")]
Contract = Annotated[
    Path | None,
    typer.Option("--contract", metavar="FILE", help="contract.json; default: the model's own."),
]
TrackingUri = Annotated[
    str,
    typer.Option("--tracking-uri", envvar="HEIMDALL_MLFLOW_TRACKING_URI", help="MLflow server, or sqlite:///…."),
]
Name = Annotated[str, typer.Option("--name", envvar="HEIMDALL_MODEL_NAME", help="Of the registered model.")]
MaxBatch = Annotated[int, typer.Option("--max-batch", min=1, max=1024, help="Largest batch to try.")]
Metrics = Annotated[
    list[str] | None, typer.Option("--metric", metavar="KEY=VALUE", help="A figure of the model; repeatable.")
]
DEFAULT_URI: Final = "http://127.0.0.1:5000"


@app.command(epilog="Exit codes: 0 nothing failed; 1 a check failed; 2 wrong input, or no answer from the registry.")
def check(
    model: Source,
    *,
    contract: Contract = None,
    tracking_uri: TrackingUri = DEFAULT_URI,
    max_batch: MaxBatch = 32,
    json: Annotated[bool, typer.Option("--json", help="Print the report as one line of JSON.")] = False,
) -> None:
    """Find out whether a model may serve: contract, graph, golden vectors, answers, batches."""
    with _errors():
        from worker.commands.check import check_model  # noqa: PLC0415 - see above

        passed = check_model(model, contract, tracking_uri, max_batch, json=json)
    if not passed:
        raise typer.Exit(EXIT_FAILED)


@app.command(epilog="Exit codes: 0 registered; 1 a check failed; 2 wrong input, or no answer from the registry.")
def register(
    model: File,
    *,
    contract: Contract = None,
    name: Name = "heimdall",
    alias: Annotated[Alias, typer.Option("--alias", help="The part that the new version shall play.")] = Alias.NONE,
    metric: Metrics = None,
    tracking_uri: TrackingUri = DEFAULT_URI,
    max_batch: MaxBatch = 32,
    no_check: Annotated[bool, typer.Option("--no-check", help="Register without the checks.")] = False,
) -> None:
    """Check a model, then log it to the registry as a new version with its digest, contract and metrics."""
    metrics = dict(_metric(text) for text in metric or [])
    with _errors():
        from worker.commands.register import Registration, register_model  # noqa: PLC0415 - see above

        wanted = Registration(
            model=model,
            contract=contract,
            tracking_uri=tracking_uri,
            name=name,
            alias=None if alias is Alias.NONE else alias.value,
            max_batch=None if no_check else max_batch,
            metrics=metrics,
        )
        registered = register_model(wanted, Console(markup=False, highlight=False, soft_wrap=True))
    if not registered:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def init(
    model: File,
    *,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Default: standard output.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the output if it exists.")] = False,
) -> None:
    """Draft a contract from the graph. What it does not tell is null, and asked for on standard error."""
    with _errors():
        from worker.commands.init import init_contract  # noqa: PLC0415 - see above

        init_contract(model, output, _messages(), force=force)


def _metric(text: str) -> tuple[str, float]:
    key, _, value = text.partition("=")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not key or not math.isfinite(number):
        _refuse(f"--metric {text!r}: it must be KEY=NUMBER, such as accuracy_m=2536")
    return key, number


@contextmanager
def _errors() -> Iterator[None]:
    """What can go wrong, as one line and an exit code."""
    from worker.commands.candidate import NoSuchModel  # noqa: PLC0415 - see above
    from worker.errors import HeimdallError  # noqa: PLC0415 - see above

    try:
        yield
    except (NoSuchModel, HeimdallError, OSError) as error:
        _refuse(str(error))


def _refuse(reason: str) -> NoReturn:
    _messages().print(f"heimdall: {reason}", style="red", soft_wrap=True)
    raise typer.Exit(EXIT_USAGE)


def _messages() -> Console:
    return Console(file=sys.stderr, markup=False, highlight=False)
