"""What was confirmed, on disk: a publisher that starts again goes on where it stopped.

The first line names the run, from which job ids are made; each further line is a confirmed window. A line that a
crash cut short or kept from the disk costs a second publish under the same id, which the workers answer from the
store.
"""

import json
import uuid
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from client.errors import CaptureError, HeimdallError

_FORMAT: Final = "heimdall publish journal 1"


class Journal:
    """Confirmed windows; without a path it only lives as long as the run.

    Args:
        path: of the file; made where there is none.

    Raises:
        CaptureError: unreadable, or another kind of file.
    """

    def __init__(self, path: Path | None) -> None:
        self.run = uuid.uuid4().hex
        """Of this and all runs that share the file."""
        self._path = path
        self._done: set[tuple[str, int]] = set()
        self._file: IO[str] | None = None
        if path is not None and path.exists() and path.stat().st_size:
            self._read(path)

    def __enter__(self) -> Self:
        """Open the file to go on writing.

        Raises:
            CaptureError: it cannot be written.
        """
        if self._path is None:
            return self
        try:
            fresh = not self._path.exists() or not self._path.stat().st_size
            if not fresh:
                _end_last_line(self._path)
            self._file = self._path.open("a", encoding="utf-8")
        except OSError as error:
            raise CaptureError(f"--journal {self._path}: {error.strerror}") from None
        if fresh:
            self._write(json.dumps({"format": _FORMAT, "run": self.run}))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def holds(self, key: str, index: int) -> bool:
        """Whether a window was confirmed, in this run or before."""
        return (key, index) in self._done

    def add(self, key: str, index: int) -> None:
        """A window is confirmed.

        Args:
            key: of the recording and how it is cut; no blanks.
            index: of the window.

        Raises:
            HeimdallError: the file cannot be written.
        """
        self._done.add((key, index))
        self._write(f"{key} {index}")

    def _write(self, line: str) -> None:
        if self._file is None:
            return
        try:
            self._file.write(line + "\n")
            self._file.flush()
        except OSError as error:  # Not of one recording: the run ends.
            raise HeimdallError(f"--journal {self._path}: {error.strerror}") from None

    def _read(self, path: Path) -> None:
        try:
            head, *lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            self.run = _run_of(json.loads(head))
        except OSError as error:
            raise CaptureError(f"--journal {path}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError):
            raise CaptureError(f"--journal {path}: another kind of file: name one that does not exist yet") from None
        for line in lines:
            key, _, index = line.rstrip("\n").partition(" ")
            if line.endswith("\n") and index.isdecimal():  # A line that a crash cut short says nothing.
                self._done.add((key, int(index)))


def _end_last_line(path: Path) -> None:
    """Take off what a crash left of a window's line: ended here, it would name another window."""
    text = path.read_bytes()
    whole = text[: text.rfind(b"\n") + 1] or text + b"\n"
    if whole != text:
        path.write_bytes(whole)


def _run_of(head: dict[str, str]) -> str:
    if head["format"] != _FORMAT:
        raise ValueError(head)
    return head["run"]
