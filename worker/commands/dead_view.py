"""What `heimdall dead` shows to people."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from worker.commands.dead_letter import Letter
from worker.commands.dead_replay import Fate, Replayed

_SHOWN: Final = 50
_REASON_SHOWN: Final = 70
_SECONDS: Final = 19  # of RFC 3339: to the second


def show_list(letters: Sequence[Letter], *, meant: int, in_queue: int, console: Console) -> None:
    """Letters that were asked for, newest last, and how many of each code."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("failed at", "job", "code", "publisher", "model", "bytes", "reason"):
        table.add_column(column, overflow="fold", justify="right" if column == "bytes" else "left")
    for letter in letters[-_SHOWN:]:
        reason = letter.reason if len(letter.reason) <= _REASON_SHOWN else f"{letter.reason[:_REASON_SHOWN]}…"
        when = (letter.failed_at or "")[:_SECONDS].replace("T", " ")
        cells = (when, letter.job_id, letter.code, letter.publisher, letter.model_version, f"{letter.body_bytes:,}")
        table.add_row(*(Text(cell or "-") for cell in cells), Text(reason, "dim"))
    if letters:
        console.print(table)
    if len(letters) > _SHOWN:
        console.print(f"the newest {_SHOWN} of {len(letters)}; --json prints all", style="dim")
    for code, count in Counter(letter.code for letter in letters).most_common():
        console.print(f"{count:6} {code}")
    more = f"; {meant - len(letters)} more are meant, see --limit" if meant > len(letters) else ""
    console.print(f"{len(letters)} of {in_queue} dead letters{more}")


def show_letter(letter: Letter, console: Console) -> None:
    """Everything that one letter says."""
    document = letter.document()
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for name, value in _rows(document):
        table.add_row(name, Text(value))
    console.print(table)


def _rows(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    plain = [(name.replace("_", " "), _plain(v)) for name, v in document.items() if name not in {"capsule", "headers"}]
    capsule = [(name.replace("-", " "), _plain(value)) for name, value in document["capsule"].items()]
    return plain + capsule + [(f"header {name}", _plain(value)) for name, value in document["headers"].items()]


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "-" if value is None else str(value)


def show_replay(done: Sequence[Replayed], console: Console) -> None:
    """How many of each fate, and why letters stay."""
    counts = Counter(replayed.fate for replayed in done)
    for replayed in [r for r in done if r.fate is Fate.KEPT][:_SHOWN]:
        console.print(Text(f"kept {replayed.letter.job_id or '-'}: {replayed.why}", "yellow"))
    if not done:
        console.print("no dead letter is meant by this")
        return
    words = {
        Fate.REPLAYED: "replayed: the jobs are in the queue again",
        Fate.ANSWERED: "answered before: an earlier replay's result is stored; the letters are gone",
        Fate.KEPT: "kept",
    }
    for fate, text in words.items():
        if counts[fate]:
            console.print(f"{counts[fate]:6} {text}")
