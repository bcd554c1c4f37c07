"""What a run amounts to: a row per scenario, a JSON document, a table, one line."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from bench.chaos.world import Check, World

SHOWN: Final = 5


@dataclass(frozen=True)
class Row:
    """One scenario.

    Attributes:
        recovery_s: from the end of a disturbance to the next answer, at worst; None where none came.
        failure: what kept the scenario from being judged at all, or empty.
    """

    number: int
    name: str
    expected: str
    confirmed: int
    lost: int
    unexpected: int
    differing: int
    re_inferred: int
    repeated: int
    left: int
    recovery_s: float | None
    took_s: float
    checks: tuple[Check, ...]
    notes: tuple[str, ...] = ()
    failure: str = ""

    @property
    def clean(self) -> bool:
        """Whether nothing was lost, and every bound held."""
        counts = self.lost or self.unexpected or self.differing or self.left
        return not (counts or self.failure) and all(check.holds for check in self.checks)


def row(number: int, name: str, expected: str, world: World, took_s: float, failure: str = "") -> Row:
    """The row of a world that was settled, or could not be."""
    found = world.verdict
    if found is None:
        checks, notes = tuple(world.checks), tuple(world.notes)
        return Row(number, name, expected, 0, 0, 0, 0, 0, 0, 0, None, took_s, checks, notes, failure or "not settled")
    kinds = {"lost": found.lost, "unexpected": found.unexpected, "differing": found.differing}
    examples = [f"{kind}: {', '.join(jobs[:SHOWN])}" for kind, jobs in kinds.items() if jobs]
    return Row(
        number=number,
        name=name,
        expected=expected,
        confirmed=found.confirmed,
        **{kind: len(jobs) for kind, jobs in kinds.items()},
        re_inferred=found.re_inferred,
        repeated=found.repeated,
        left=found.left,
        recovery_s=world.recovery_s,
        took_s=took_s,
        checks=tuple(world.checks),
        notes=(*world.notes, *examples),
        failure=failure,
    )


def summary(rows: Sequence[Row]) -> str:
    """The last line."""
    names = ("confirmed", "lost", "unexpected", "differing", "left")
    sums = " ".join(f"{name}={sum(getattr(row, name) for row in rows)}" for name in names)
    return f"chaos: scenarios={len(rows)} {sums}"


def document(rows: Sequence[Row], command: str) -> dict[str, Any]:
    """The report as JSON."""
    return {"command": command, "summary": summary(rows), "scenarios": [{**asdict(r), "clean": r.clean} for r in rows]}


def table(scenarios: Sequence[dict[str, Any]]) -> str:
    """The report as a Markdown table, from the JSON document."""
    head = "| | scenario | confirmed | lost | unexpected | differing | inferred again | left | recovery s | bounds |"
    lines = [head, "|---" * 10 + "|"]
    for found in scenarios:
        counts = [found[name] for name in ("confirmed", "lost", "unexpected", "differing", "re_inferred", "left")]
        recovery = "-" if found["recovery_s"] is None else f"{found['recovery_s']:.1f}"
        bounds = "; ".join(
            f"{'' if c['holds'] else '**broken** '}{c['what']}: {c['measured']} ({c['bound']})" for c in found["checks"]
        )
        bounds = "; ".join([bounds, *found["notes"]])
        failure = f"**{found['failure']}** " if found["failure"] else ""
        cells = [found["number"], found["name"], *counts, recovery, failure + bounds]
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def write(directory: Path, rows: Sequence[Row], command: str) -> None:
    """Write `report.json` and `report.md`."""
    directory.mkdir(parents=True, exist_ok=True)
    found = document(rows, command)
    (directory / "report.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    text = f"`{command}`\n\n{table(found['scenarios'])}\n`{found['summary']}`\n"
    (directory / "report.md").write_text(text)
