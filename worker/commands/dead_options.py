"""Options of `heimdall dead`, named once."""

from collections.abc import Sequence
from typing import Annotated, Final

import typer

from client.commands.parameters import DEFAULT_URL, Url
from worker.commands.ctl_options import DEFAULT_NAME, DEFAULT_TRACKING_URI, Name, OptionalVersion, TrackingUri
from worker.commands.dead_selection import Selection, since

DEFAULT_REDIS_URL: Final = "redis://127.0.0.1:6379/0"
DEFAULT_MOST: Final = 10_000

_WHICH = "Which letters"

Job = Annotated[str, typer.Argument(metavar="JOB", help="Its job id.")]
Jobs = Annotated[list[str] | None, typer.Argument(metavar="[JOB]…", help="Their job ids.")]
Codes = Annotated[
    list[str] | None,
    typer.Option("--code", metavar="CODE", help="Why they failed; repeatable.", rich_help_panel=_WHICH),
]
Since = Annotated[
    str | None,
    typer.Option(
        "--since", metavar="WHEN", help="Failed since: an age (90s, 30m, 2h, 7d) or RFC 3339.", rich_help_panel=_WHICH
    ),
]
All = Annotated[bool, typer.Option("--all", help="Every letter.", rich_help_panel=_WHICH)]
Most = Annotated[int, typer.Option("--limit", min=1, help="At most so many, the oldest first.", rich_help_panel=_WHICH)]
RedisUrl = Annotated[str, typer.Option("--redis-url", envvar="HEIMDALL_REDIS_URL", help="Where outcomes are stored.")]
NewId = Annotated[
    bool,
    typer.Option("--new-id", help="Publish under a new id, as your own; what is stored under the old one stays."),
]
RoutingKey = Annotated[
    str | None, typer.Option("--routing-key", help="Where to publish; default: the job's own, or localize.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Body = Annotated[str | None, typer.Option("--body", metavar="FILE", help="Write the job's body there; - = stdout.")]
TimeLimit = Annotated[float, typer.Option("--timeout", min=1.0, help="Seconds the child may take.")]
TryVersion = Annotated[
    str | None,
    typer.Option("--version", metavar="VERSION", help="Try this one instead of the version that the job failed on."),
]


def selection(jobs: Sequence[str] | None, codes: Sequence[str] | None, when: str | None) -> Selection:
    """The filter that the options make."""
    try:
        return Selection(frozenset(jobs or ()), frozenset(codes or ()), since(when) if when else None)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--since") from None


def deliberate(selected: Selection, *, everything: bool) -> Selection:
    """The same, unless it means every letter and nobody said so."""
    if selected.everything != everything:
        raise typer.BadParameter("name JOBs, give --code or --since, or ask for --all; and not both")
    return selected


__all__ = ["DEFAULT_NAME", "DEFAULT_TRACKING_URI", "DEFAULT_URL", "Name", "OptionalVersion", "TrackingUri", "Url"]
