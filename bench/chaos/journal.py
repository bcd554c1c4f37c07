"""Files in which the load writes down what it saw, a line each: nothing depends on a process that may be stopped.

| file | fields of a line |
|---|---|
| `published` | job id, time before the first try |
| `confirmed` | job id, time of the confirm |
| `refused` | job id: the broker refused it; it is published again |
| `replies` | job id, time, digest of the body, error code or `-`, 1 if it fits the job, 1 if delivered before |
| `events` | job id, time, routing key |

Times are `time.monotonic()`, which all processes of a machine share.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Final, TextIO

from bench.chaos.oracle import Answer

NAMES: Final = ("published", "confirmed", "refused", "replies", "events")
DONE: Final = "done"
"""Written when everything that was published is confirmed, and no more will be."""
_NO_CODE: Final = "-"


def digest(body: bytes) -> str:
    """Of an answer, short."""
    return blake2b(body, digest_size=8).hexdigest()


class Journal:
    """Writes the files; `flush` it now and then.

    Args:
        directory: of the files, made if need be.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._files: dict[str, TextIO] = {name: (directory / name).open("a") for name in NAMES}

    def note(self, name: str, *fields: object) -> None:
        """Write a line."""
        self._files[name].write(" ".join(map(str, fields)) + "\n")

    def reply(self, job: str, at: float, answer: Answer, *, again: bool) -> None:
        """Write a reply."""
        self.note("replies", job, f"{at:.6f}", answer.digest, answer.code or _NO_CODE, int(answer.fits), int(again))

    def flush(self) -> None:
        """Hand everything to the operating system."""
        for file in self._files.values():
            file.flush()

    def done(self) -> None:
        """Say that all is confirmed."""
        self.flush()
        (self._directory / DONE).touch()


@dataclass
class Record:
    """What one or more journals say.

    Attributes:
        published, confirmed: time by job.
        refused: publishes that the broker refused.
        replies: by job, without those that came before and were delivered to the recorder again.
        answered_at: times of all replies, ascending.
    """

    published: dict[str, float] = field(default_factory=dict)
    confirmed: dict[str, float] = field(default_factory=dict)
    refused: int = 0
    replies: dict[str, list[Answer]] = field(default_factory=dict)
    answered_at: list[float] = field(default_factory=list)
    events: dict[str, frozenset[str]] = field(default_factory=dict)


def read(*directories: Path) -> Record:
    """Read journals, of which some may still be written."""
    record = Record()
    for directory in directories:
        _read(directory, record)
    record.answered_at.sort()
    return record


def confirmed(*directories: Path) -> list[str]:
    """Jobs confirmed so far."""
    return [fields[0] for directory in directories for fields in _lines(directory / "confirmed", 2)]


def answered(*directories: Path) -> set[str]:
    """Jobs to which a reply came."""
    return {fields[0] for directory in directories for fields in _lines(directory / "replies", 6)}


def _read(directory: Path, record: Record) -> None:
    record.published |= {job: float(at) for job, at in _lines(directory / "published", 2)}
    record.confirmed |= {job: float(at) for job, at in _lines(directory / "confirmed", 2)}
    record.refused += sum(1 for _ in _lines(directory / "refused", 1))
    for job, at, found, code, fits, again in _lines(directory / "replies", 6):
        record.answered_at.append(float(at))
        replies = record.replies.setdefault(job, [])
        if again == "0" or found not in {reply.digest for reply in replies}:
            replies.append(Answer(found, None if code == _NO_CODE else code, fits == "1"))
    for job, _, key in _lines(directory / "events", 3):
        record.events[job] = record.events.get(job, frozenset()) | {key}


def _lines(path: Path, count: int) -> Iterator[list[str]]:
    """Fields of the lines; the last may not be written whole yet."""
    if not path.exists():
        return
    for line in path.read_text().splitlines(keepends=True):
        if line.endswith("\n") and len(fields := line.split()) == count:
            yield fields
