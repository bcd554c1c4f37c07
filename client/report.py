"""Answers for people: what `heimdall locate` prints."""

from collections.abc import Sequence
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from client.errors import HeimdallError, LocalizationError
from client.replies import Answer
from schemas.problems import Problem, ProblemError
from schemas.result import BatchResult, Coordinates, Ellipse, Fix, Flag, IgnoredReceiver, LocalizationResult, Timings

FLAGS: Final[dict[Flag, str]] = {
    "few_receivers": "few receivers took part",
    "outside_area": "outside the area the model was made for",
    "clipped": "over 1 % of the samples at full scale: reduce the gain",
    "stale": "the capture was old when it was located",
}
_KILOMETRE_M: Final = 1000.0
_MS_PER_S: Final = 1000.0
_DIGEST_SHOWN: Final = 19  # "blake3:" and twelve digits


def describe_answer(name: str, answer: Answer) -> RenderableType:
    """An answer with everything a reader of one fix may ask for."""
    if isinstance(answer, BatchResult):
        samples = [_sample(name, sample) for sample in answer.predictions]
        return Group(*samples, *_job_lines(answer), Text())
    return Group(*_fix_lines(name, answer), *_job_lines(answer), Text())


def describe_error(name: str, error: HeimdallError) -> RenderableType:
    """An error with what to do about it."""
    head = f"{name or 'heimdall'}: "
    if not isinstance(error, LocalizationError):
        return Text(f"{head}{error}", style="red")
    return Group(*_problem_lines(head, error.problem), Text(f"  what to do: {error.remedy}"))


def merged_geojson(answers: Sequence[Answer]) -> dict[str, Any]:
    """The FeatureCollection of one fix as it came, of several with all their features."""
    collections = [fix.geojson for answer in answers for fix in _fixes(answer)]
    if len(collections) == 1:
        return collections[0]
    features = [feature for collection in collections for feature in collection["features"]]
    return {"type": "FeatureCollection", "features": features}


def format_dms(position: Coordinates) -> str:
    """Degrees, minutes and seconds, to 3 m."""
    latitude = _dms(position.latitude, "N", "S")
    return f"{latitude} {_dms(position.longitude, 'E', 'W')}"


def format_decimal(position: Coordinates) -> str:
    """Decimal degrees with their hemispheres, to 0.1 m."""
    north = "N" if position.latitude >= 0 else "S"
    east = "E" if position.longitude >= 0 else "W"
    return f"{abs(position.latitude):.6f}° {north} {abs(position.longitude):.6f}° {east}"


def format_length(metres: float) -> str:
    """Metres up to one kilometre, kilometres above."""
    return f"{metres:.0f} m" if metres < _KILOMETRE_M else f"{metres / _KILOMETRE_M:.2f} km"


def format_age(age_ms: float) -> str:
    """Milliseconds, or the unit that suits."""
    seconds = abs(age_ms) / _MS_PER_S
    sign = "-" if age_ms < 0 else ""
    for unit, length in (("years", 31_557_600), ("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{sign}{seconds / length:.1f} {unit}"
    return f"{sign}{seconds:.1f} s" if seconds >= 1 else f"{age_ms:.0f} ms"


def _dms(degrees: float, positive: str, negative: str) -> str:
    # Tenths of a second as an integer, so that 59.96 becomes the next minute and never 60.0.
    tenths = round(abs(degrees) * 36000)
    minutes, tenths = divmod(tenths, 600)
    return f"{minutes // 60}°{minutes % 60:02d}\u2032{tenths / 10:04.1f}\u2033 {positive if degrees >= 0 else negative}"


def _fixes(answer: Answer) -> list[Fix]:
    if isinstance(answer, LocalizationResult):
        return [answer]
    return [sample for sample in answer.predictions if not isinstance(sample, Problem)]


def _sample(name: str, sample: Fix | Problem) -> RenderableType:
    head = f"{name}[{getattr(sample, 'sample', '?')}]"
    return Group(*(_problem_lines(f"{head}: ", sample) if isinstance(sample, Problem) else _fix_lines(head, sample)))


def _fix_lines(name: str, fix: Fix) -> list[RenderableType]:
    lines: list[RenderableType] = [
        Text.assemble(
            (name, "bold"), "  ", (format_decimal(fix.position), "bold green"), "  ", format_dms(fix.position)
        ),
        _ellipse_table(fix.ellipses),
        *(Text(f"  ! {FLAGS[flag]}", style="yellow") for flag in fix.flags),
    ]
    if fix.confidence is not None:
        lines.append(_line("confidence", f"{fix.confidence:.0%} by the model"))
    if fix.receivers_used:
        lines.append(_line("receivers", ", ".join(receiver.id for receiver in fix.receivers_used)))
    if fix.receivers_ignored:
        lines.append(_line("ignored", ", ".join(map(_ignored, fix.receivers_ignored))))
    return lines


def _ellipse_table(ellipses: Sequence[Ellipse]) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for column in ("confidence", "semi-major", "semi-minor", "azimuth", "area"):
        table.add_column(column, justify="right", no_wrap=True)
    for ellipse in ellipses:
        table.add_row(
            f"{ellipse.confidence * 100:g} %",
            format_length(ellipse.semi_major_m),
            format_length(ellipse.semi_minor_m),
            f"{ellipse.azimuth_deg:.0f}°",
            f"{ellipse.area_m2 / _KILOMETRE_M**2:.3g} km²",
        )
    return table


def _job_lines(answer: Answer) -> list[RenderableType]:
    model = answer.model
    lines = [_line("model", f"{model.name} version {model.version} ({model.alias}, {model.digest[:_DIGEST_SHOWN]})")]
    if answer.capture_time is not None:
        age = "" if answer.age_ms is None else f", {format_age(answer.age_ms)} before it was located"
        lines.append(_line("captured", f"{answer.capture_time}{age}"))
    if answer.session_id is not None:
        lines.append(_line("session", answer.session_id))
    lines.append(_line("job", answer.job_id))
    lines.append(_line("took", _timings(answer.timings_ms)))
    return [*lines]


def _timings(timings: Timings) -> str:
    stages = timings.model_dump(exclude={"total"})
    return f"{timings.total:.1f} ms ({', '.join(f'{stage} {ms:.1f}' for stage, ms in stages.items())})"


def _problem_lines(head: str, problem: Problem) -> list[RenderableType]:
    lines: list[RenderableType] = [
        Text.assemble((f"{head}{problem.title}", "bold red"), f" ({problem.code})"),
        Text(f"  {problem.detail}"),
    ]
    lines += [Text(f"  - {line}") for error in problem.errors or () if (line := _particular(error, problem.detail))]
    if problem.job_id is not None:
        lines.append(Text(f"  job {problem.job_id}", style="dim"))
    return lines


def _particular(error: ProblemError, detail: str) -> str:
    """What an entry of `errors` says beyond the problem's own detail; empty where nothing."""
    expected = None if error.expected is None else f"expected: {error.expected}"
    said = None if error.detail == detail else error.detail
    return ": ".join(part for part in (error.pointer, said, expected) if part)


def _line(label: str, value: str) -> Text:
    return Text.assemble((f"  {label:<11}", "dim"), value)


def _ignored(receiver: IgnoredReceiver) -> str:
    return f"{receiver.id} ({receiver.reason})"
