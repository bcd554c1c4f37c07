"""Labelled recordings through the queue."""

import asyncio
from collections.abc import Callable, Sequence
from itertools import chain

from client.client import HeimdallClient
from client.errors import HeimdallError
from client.evaluation.labels import Labelled
from client.evaluation.scenes import Scene, failed, located
from client.files import load
from client.options import JobOptions
from client.reading import ReadOptions
from client.replies import Answer
from schemas.problems import Problem
from schemas.result import BatchResult


async def ask_all(
    client: HeimdallClient,
    labelled: Sequence[Labelled],
    options: JobOptions,
    *,
    concurrency: int,
    done: Callable[[Sequence[str]], None],
) -> list[Scene]:
    """Locate every recording; a recording is in memory only while its job is on its way.

    Args:
        client: connected.
        labelled: recordings on disk.
        options: of each job.
        concurrency: jobs on their way at a time.
        done: called after each recording, with what `load` had to say of it.

    Returns:
        The scenes, in the order of the recordings and of their samples.
    """
    places = asyncio.Semaphore(concurrency)

    async def one(recording: Labelled) -> list[Scene]:
        async with places:
            scenes, notes = await _ask(client, recording, options)
            done(notes)
            return scenes

    return list(chain.from_iterable(await asyncio.gather(*map(one, labelled))))


async def _ask(client: HeimdallClient, recording: Labelled, options: JobOptions) -> tuple[list[Scene], Sequence[str]]:
    notes: Sequence[str] = ()
    try:
        loaded = await asyncio.to_thread(load, recording.path, ReadOptions())
        notes = loaded.notes
        answer = await client.request(loaded.capture, **options)
    except HeimdallError as error:
        return [failed(recording.name, sample, error) for sample in range(len(recording.labels))], notes
    return _scenes(recording, answer), notes


def _scenes(recording: Labelled, answer: Answer) -> list[Scene]:
    outcomes = answer.predictions if isinstance(answer, BatchResult) else [answer]
    return [
        failed(recording.name, sample, outcome)
        if isinstance(outcome, Problem)
        else located(recording.name, sample, label, outcome, answer.model)
        for sample, (label, outcome) in enumerate(zip(recording.labels, outcomes, strict=True))
    ]
