"""`heimdall model register`: check a model, and log it to the registry."""

from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from worker.commands.candidate import candidate, check_readable
from worker.commands.check import examine_apart
from worker.commands.rendering import show
from worker.serving.loading import file_digest
from worker.serving.registry import Registry


@dataclass(frozen=True, slots=True)
class Registration:
    """What is to be registered.

    Attributes:
        alias: that shall point to the new version; None = none.
        max_batch: largest batch of the checks; None = no checks.
    """

    model: Path
    contract: Path | None
    tracking_uri: str
    name: str
    alias: str | None
    max_batch: int | None
    metrics: dict[str, float] = field(default_factory=dict)


def register_model(wanted: Registration, console: Console) -> bool:
    """Register a model unless a check fails; say what happens next.

    Returns:
        Whether it was registered.

    Raises:
        NoSuchModel, ModelRejected, Unavailable: it cannot be registered.
    """
    check_readable(wanted.model)
    if not _passes(wanted, console):
        return False
    registry = Registry(wanted.tracking_uri, wanted.name)
    version = registry.register(wanted.model, contract=wanted.contract, alias=wanted.alias, metrics=wanted.metrics)
    console.print(f"{wanted.name} version {version} is registered, {file_digest(wanted.model)}")
    console.print(_next(wanted, version))
    return True


def _passes(wanted: Registration, console: Console) -> bool:
    with candidate(str(wanted.model), wanted.contract, wanted.tracking_uri) as found:
        if wanted.max_batch is None:
            return True
        report = examine_apart(found, wanted.max_batch)
    show(report, console)
    if not report.passed:
        console.print("Nothing was registered.")
    return report.passed


def _next(wanted: Registration, version: str) -> str:
    if wanted.alias is None:
        return (
            "No alias points to it: nothing changes. "
            f"Look at it with `heimdall model check models:/{wanted.name}/{version}`."
        )
    part = {
        "production": "it answers all jobs",
        "canary": "it answers the share of sessions that its tag heimdall.canary_weight says",
        "shadow": "it runs beside production and answers nothing",
    }[wanted.alias]
    return f"The alias {wanted.alias} points to it: {part}. Workers take it on `heimdall ctl reload`."
