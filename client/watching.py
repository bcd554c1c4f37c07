"""Watching folders: each recording once, when it is complete.

A file is complete when it has not changed for a while, it and all that it refers to. So a recorder may write slowly,
and a collection may come before its streams.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Final

from client.errors import CaptureError
from client.files import COLLECTION_SUFFIX
from client.reading import ReadOptions
from client.sources import Source, files_in, identity, open_sources

logger = logging.getLogger(__name__)

POLL_S: Final = 0.5
SETTLED_S: Final = 2.0
_UNREADABLE: Final = "unreadable"
_PATIENCE_S: Final = 30.0
"""For a file that is not valid: its other half may be on its way."""


async def watch(
    folders: Iterable[Path], options: ReadOptions, *, settled_s: float = SETTLED_S, poll_s: float = POLL_S
) -> AsyncIterator[Source]:
    """Recordings of folders as they become complete, for ever. What stays unreadable is logged and left out.

    Args:
        folders: that exist.
        options: how to read them.
        settled_s: seconds without a change after which a file is complete.
        poll_s: seconds between two looks.
    """
    watched = [_Folder(folder, options, settled_s) for folder in folders]
    while True:
        for folder in watched:
            for source in await asyncio.to_thread(folder.look):
                yield source
        await asyncio.sleep(poll_s)


class _Folder:
    """What was seen in one folder.

    Args:
        folder: to look into.
        options: how to read its files.
        settled_s: seconds without a change.
    """

    def __init__(self, folder: Path, options: ReadOptions, settled_s: float) -> None:
        self._folder = folder
        self._options = options
        self._settled_s = settled_s
        self._changed: dict[Path, tuple[str, float]] = {}
        self._finished: dict[Path, str] = {}

    def look(self) -> list[Source]:
        """The recordings that have become complete since the last look."""
        given_up = {file for file, state in self._finished.items() if state.startswith(_UNREADABLE)}
        try:
            files = files_in(self._folder, unreadable=given_up)
        except CaptureError as error:  # A collection that is being written: its streams must not go without it.
            logger.debug("%s", error)
            files = sorted(self._folder.glob(f"*{COLLECTION_SUFFIX}"))
        return [source for file in files for source in self._look_at(file)]

    def _look_at(self, file: Path) -> list[Source]:
        now = time.monotonic()
        try:
            sources = open_sources(file, self._options)
            state = identity([path for source in sources for path in source.files])
        except (CaptureError, OSError) as error:
            self._unreadable(file, error, now)
            return []
        before, since = self._changed.get(file, ("", now))
        if state != before:
            self._changed[file] = (state, now)
            since = now
        if now - since < self._settled_s or self._finished.get(file) == state:
            return []
        self._finished[file] = state
        return sources

    def _unreadable(self, file: Path, error: Exception, now: float) -> None:
        try:
            state = f"{_UNREADABLE} {identity([file])}"
        except CaptureError:
            state = "gone"
        before, since = self._changed.get(file, ("", now))
        if state != before:
            self._changed[file] = (state, now)
        elif now - since >= _PATIENCE_S and self._finished.get(file) != state:
            self._finished[file] = state
            logger.warning("left out: %s", error)
