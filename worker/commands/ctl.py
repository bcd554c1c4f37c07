"""`heimdall ctl`: change the roll-out in the registry, tell the workers, and see whether they agree.

Exit codes: 0 the fleet agrees; 1 the registry or a worker refuses, or a worker differs; 2 an argument is wrong,
nothing was asked; 3 the broker, the registry or a worker does not answer.
"""

import asyncio
import logging
from enum import IntEnum
from getpass import getuser
from typing import TYPE_CHECKING

import orjson
import typer
from aio_pika.exceptions import AMQPError
from rich.console import Console

from client.errors import BrokerUnreachable, CaptureError
from client.link import check_url, user_of
from worker.commands import ctl_options as o
from worker.commands.ctl_view import live, show
from worker.commands.fleet import open_fleet
from worker.commands.live_report import follow_events
from worker.commands.orders import Order, Outcome, Watch, carry_out, parts_of
from worker.commands.swap_figures import SwapFigures
from worker.errors import ModelRejected, Unavailable
from worker.serving.rollout import CANARY, SHADOW

if TYPE_CHECKING:
    from worker.commands.registry_changes import Rollouts

_ALL_PERCENT = 100.0

app = typer.Typer(
    name="ctl",
    help="Change which versions serve, and command the workers.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # A local may hold the broker's password.
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 the fleet agrees; 1 the registry or a worker refuses, or differs; 2 an argument is wrong, "
    "nothing was asked; 3 the broker, the registry or a worker does not answer.",
)


class ExitCode(IntEnum):
    """What the shell learns."""

    AGREED = 0
    NOT_AGREED = 1
    USAGE = 2
    UNREACHABLE = 3


def _rollouts(tracking_uri: str, name: str) -> "Rollouts":
    # Every `heimdall` command imports this module: MLflow is imported when one needs it.
    from worker.commands.registry_changes import Rollouts  # noqa: PLC0415

    return Rollouts(tracking_uri, name)


@app.command()
def promote(
    version: o.Version,
    *,
    report: o.Report = False,
    url: o.Url = o.DEFAULT_URL,
    tracking_uri: o.TrackingUri = o.DEFAULT_TRACKING_URI,
    name: o.Name = o.DEFAULT_NAME,
    timeout: o.Timeout = o.DEFAULT_TIMEOUT_S,
    json: o.AsJson = False,
) -> None:
    """Let a version be production."""
    rollouts = _rollouts(tracking_uri, name)
    order = Order(f"promote {version}", "reload", name, change=lambda: rollouts.promote(version))
    _run(url, order, timeout, json=json, report=report)


@app.command()
def rollback(
    *,
    url: o.Url = o.DEFAULT_URL,
    tracking_uri: o.TrackingUri = o.DEFAULT_TRACKING_URI,
    name: o.Name = o.DEFAULT_NAME,
    timeout: o.Timeout = o.DEFAULT_TIMEOUT_S,
    json: o.AsJson = False,
) -> None:
    """Go back to the version before production's, and mark the one that is left as failed."""
    rollouts, user = _rollouts(tracking_uri, name), _user(url)
    _run(url, Order("rollback", "reload", name, change=lambda: rollouts.rollback(user)), timeout, json=json)


@app.command()
def canary(
    version: o.OptionalVersion = None,
    *,
    weight: o.Weight = None,
    off: o.Off = False,
    url: o.Url = o.DEFAULT_URL,
    tracking_uri: o.TrackingUri = o.DEFAULT_TRACKING_URI,
    name: o.Name = o.DEFAULT_NAME,
    timeout: o.Timeout = o.DEFAULT_TIMEOUT_S,
    json: o.AsJson = False,
) -> None:
    """Try a version on a share of the sessions, or end the trial."""
    rollouts = _rollouts(tracking_uri, name)
    if _one_of(version, off=off) is None:
        order = Order("canary --off", "reload", name, change=lambda: rollouts.end(CANARY))
    else:
        share, tried = _share(weight), str(version)
        title = f"canary {tried} at {share:g} %"
        order = Order(title, "reload", name, change=lambda: rollouts.canary(tried, share))
    _run(url, order, timeout, json=json)


@app.command()
def shadow(
    version: o.OptionalVersion = None,
    *,
    off: o.Off = False,
    url: o.Url = o.DEFAULT_URL,
    tracking_uri: o.TrackingUri = o.DEFAULT_TRACKING_URI,
    name: o.Name = o.DEFAULT_NAME,
    timeout: o.Timeout = o.DEFAULT_TIMEOUT_S,
    json: o.AsJson = False,
) -> None:
    """Run a version beside production without effect on replies, or end that."""
    rollouts = _rollouts(tracking_uri, name)
    if _one_of(version, off=off) is None:
        order = Order("shadow --off", "reload", name, change=lambda: rollouts.end(SHADOW))
    else:
        order = Order(f"shadow {version}", "reload", name, change=lambda: rollouts.shadow(str(version)))
    _run(url, order, timeout, json=json)


@app.command()
def pause(
    *,
    instance: o.Instance = None,
    reason: o.Reason = "paused",
    url: o.Url = o.DEFAULT_URL,
    tracking_uri: o.TrackingUri = o.DEFAULT_TRACKING_URI,
    name: o.Name = o.DEFAULT_NAME,
    timeout: o.Timeout = o.DEFAULT_TIMEOUT_S,
    json: o.AsJson = False,
) -> None:
    """Take no jobs: the whole fleet, those to come included; or one worker."""
    rollouts, user = _rollouts(tracking_uri, name), _user(url)
    change = None if instance else lambda: rollouts.pause(user, reason)
    _run(url, Order("pause", "pause", name, instance, change), timeout, json=json)


@app.command()
def resume(
    *,
    instance: o.Instance = None,
    url: o.Url = o.DEFAULT_URL,
    tracking_uri: o.TrackingUri = o.DEFAULT_TRACKING_URI,
    name: o.Name = o.DEFAULT_NAME,
    timeout: o.Timeout = o.DEFAULT_TIMEOUT_S,
    json: o.AsJson = False,
) -> None:
    """Take jobs again: the whole fleet, or one worker unless the fleet is paused."""
    rollouts = _rollouts(tracking_uri, name)
    _run(url, Order("resume", "resume", name, instance, None if instance else rollouts.resume), timeout, json=json)


@app.command()
def drain(
    *,
    instance: o.Instance = None,
    reason: o.Reason = "drained",
    url: o.Url = o.DEFAULT_URL,
    tracking_uri: o.TrackingUri = o.DEFAULT_TRACKING_URI,
    name: o.Name = o.DEFAULT_NAME,
    timeout: o.Timeout = o.DEFAULT_TIMEOUT_S,
    json: o.AsJson = False,
) -> None:
    """Pause, and wait until nothing is held any more."""
    rollouts, user = _rollouts(tracking_uri, name), _user(url)
    change = None if instance else lambda: rollouts.pause(user, reason)
    _run(url, Order("drain", "drain", name, instance, change), timeout, json=json)


@app.command()
def reload(
    *,
    instance: o.Instance = None,
    url: o.Url = o.DEFAULT_URL,
    name: o.Name = o.DEFAULT_NAME,
    timeout: o.Timeout = o.DEFAULT_TIMEOUT_S,
    json: o.AsJson = False,
) -> None:
    """Let workers read the registry now."""
    _run(url, Order("reload", "reload", name, instance), timeout, json=json)


@app.command()
def info(
    *,
    instance: o.Instance = None,
    url: o.Url = o.DEFAULT_URL,
    name: o.Name = o.DEFAULT_NAME,
    timeout: o.Timeout = o.DEFAULT_TIMEOUT_S,
    json: o.AsJson = False,
) -> None:
    """Show what each worker serves."""
    _run(url, Order("info", "info", name, instance), timeout, json=json)


@app.command()
def ping(
    *,
    instance: o.Instance = None,
    url: o.Url = o.DEFAULT_URL,
    name: o.Name = o.DEFAULT_NAME,
    timeout: o.Timeout = o.DEFAULT_TIMEOUT_S,
    json: o.AsJson = False,
) -> None:
    """Ask who is there."""
    _run(url, Order("ping", "ping", name, instance), timeout, json=json)


def _one_of(version: str | None, *, off: bool) -> str | None:
    if (version is None) != off:
        raise typer.BadParameter("give either a VERSION or --off")
    return version


def _share(weight: float | None) -> float:
    if weight is None or not 0.0 < weight <= _ALL_PERCENT:
        raise typer.BadParameter("a canary needs --weight PERCENT, above 0 and at most 100")
    return weight


def _user(url: str) -> str:
    """Who gives the command, as the registry's tags name him."""
    try:
        return user_of(check_url(url)) or getuser()
    except CaptureError as error:
        raise typer.BadParameter(str(error)) from None


def _run(url: str, order: Order, timeout: float, *, json: bool, report: bool = False) -> None:
    """Carry an order out, show it, and leave with its exit code."""
    logging.getLogger("aio_pika").addHandler(logging.NullHandler())
    logging.getLogger("aiormq").addHandler(logging.NullHandler())
    messages, console = Console(stderr=True, markup=False, highlight=False), Console(markup=False, highlight=False)
    try:
        with live(console, wanted=not json) as watch:
            act = _reported if report else _unreported
            outcome, figures = asyncio.run(act(url, order, timeout, watch))
    except CaptureError as error:
        raise _leave(messages, error, ExitCode.USAGE) from None
    except ModelRejected as error:
        raise _leave(messages, error, ExitCode.NOT_AGREED) from None
    except (BrokerUnreachable, Unavailable, AMQPError) as error:
        raise _leave(messages, error, ExitCode.UNREACHABLE) from None
    if json:
        line = {"report": figures.line()} if figures else {}
        typer.echo(orjson.dumps(outcome.document() | line).decode())
    else:
        show(outcome, console)
        if figures:
            console.print(figures.line(), soft_wrap=True)
    raise typer.Exit(exit_code(outcome))


def _leave(messages: Console, error: Exception, code: ExitCode) -> typer.Exit:
    messages.print(f"heimdall ctl: {error}", soft_wrap=True)
    return typer.Exit(code)


def exit_code(outcome: Outcome) -> ExitCode:
    """What the shell learns of an outcome."""
    if outcome.agreed:
        return ExitCode.AGREED
    return ExitCode.NOT_AGREED if outcome.complaints or outcome.answers else ExitCode.UNREACHABLE


async def _unreported(url: str, order: Order, timeout: float, watch: Watch) -> tuple[Outcome, None]:
    async with open_fleet(url) as fleet:
        return await carry_out(fleet, order, timeout, watch), None


async def _reported(url: str, order: Order, timeout: float, watch: Watch) -> tuple[Outcome, SwapFigures]:
    async with follow_events(url) as events:
        began = await events.baseline()
        outcome, _ = await _unreported(url, order, timeout, watch)
        return outcome, await events.figures(began, _known_versions(outcome))


def _known_versions(outcome: Outcome) -> set[str]:
    """Versions that may answer while the fleet changes over."""
    replies = [*outcome.called.values(), *outcome.answers.values()]
    return {version for reply in replies for version in parts_of(reply).values()}


if __name__ == "__main__":
    app()
