"""What `heimdall dead` does on the broker: find, replay, drop."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from client.link import check_url, user_of
from worker.commands.dead_letter import Letter
from worker.commands.dead_queue import open_dead_letters
from worker.commands.dead_replay import Fate, Manner, Replayed, open_replay
from worker.commands.dead_selection import Selection
from worker.commands.dead_stored import StoredOutcomes


@dataclass(frozen=True, slots=True)
class Found:
    """Letters that are meant.

    Attributes:
        letters: from the oldest on, at most as many as asked for.
        meant: all that are meant.
        in_queue: all that were looked at.
    """

    letters: list[Letter]
    meant: int
    in_queue: int

    def document(self) -> dict[str, Any]:
        """For scripts."""
        return {
            "letters": [letter.document() for letter in self.letters],
            "counts": dict(Counter(letter.code for letter in self.letters)),
            "meant": self.meant,
            "in_queue": self.in_queue,
        }


async def find(url: str, selection: Selection, most: int) -> Found:
    """The letters that are meant; the queue is left as it was."""
    async with open_dead_letters(url) as dead:
        letters = [held.letter async for held in dead.read() if held.letter in selection]
        return Found(letters[:most], len(letters), dead.fetched)


async def find_bodies(url: str, job_id: str) -> list[tuple[Letter, bytes]]:
    """The letters of one job with their bodies; the queue is left as it was."""
    async with open_dead_letters(url) as dead:
        return [(held.letter, held.body) async for held in dead.read() if held.letter.job_id == job_id]


async def replay(
    url: str, redis_url: str, selection: Selection, most: int, *, new_id: bool, routing_key: str | None
) -> list[Replayed]:
    """Replay the letters that are meant; see `worker.commands.dead_replay`.

    Raises:
        CaptureError: a URL is none.
        Unavailable: Redis does not answer.
        BrokerUnreachable: the broker does not, or refuses.
    """
    manner = Manner(new_id, user_of(check_url(url)), routing_key)
    stored = None if new_id else StoredOutcomes(redis_url)
    try:
        async with open_dead_letters(url) as dead:
            work = await open_replay(dead, stored, manner)
            return await work.run(selection, most)
    finally:
        if stored is not None:
            await stored.close()


async def drop(url: str, selection: Selection, most: int, agree: Callable[[Found], bool]) -> list[Letter]:
    """Remove the letters that are meant, if `agree`, which is shown them and may take its time, does."""
    async with open_dead_letters(url) as dead:
        all_meant = {held.place: held.letter async for held in dead.read() if held.letter in selection}
        meant = dict(list(all_meant.items())[:most])
        found = Found(list(meant.values()), len(all_meant), dead.fetched)
        # In a thread, as it may ask a person: heartbeats go on, and the letters stay held.
        if not meant or not await asyncio.to_thread(agree, found):
            return []
        await dead.acknowledge(meant)
        return found.letters


def replay_document(done: Sequence[Replayed]) -> dict[str, Any]:
    """For scripts."""
    return {
        "counts": {str(fate): sum(replayed.fate is fate for replayed in done) for fate in Fate},
        "letters": [
            {
                "job_id": replayed.letter.job_id,
                "published_as": replayed.job_id if replayed.fate is Fate.REPLAYED else None,
                "code": replayed.letter.code,
                "fate": replayed.fate,
                "why": replayed.why or None,
            }
            for replayed in done
        ],
    }


def all_gone(done: Sequence[Replayed]) -> bool:
    """Whether no letter was kept."""
    return all(replayed.fate is not Fate.KEPT for replayed in done)
