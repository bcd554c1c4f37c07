"""`heimdall publish FILE…`: cut recordings into windows and publish each as a job, without waiting for positions.

Confirmed jobs go to standard output with `--json`, everything else to standard error. Exit codes: 0 all confirmed;
1 a worker refuses the first window; 2 wrong input; 3 the broker does not take a job; 130 Ctrl-C.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import typer
from rich.console import Console

from client.claim_store import ClaimStore
from client.client import HeimdallClient
from client.commands import parameters as p
from client.commands.exits import INTERRUPTED, ExitCode, told
from client.commands.messages import shown, stderr
from client.commands.publish_progress import Progress
from client.errors import CaptureError, LocalizationError
from client.journal import Journal
from client.options import DEFAULT_OUTSTANDING, DEFAULT_TIMEOUT_S, PublishOptions
from client.publishing import How, Publishing
from client.quantities import given_receivers, parse_quantity, parse_rate
from client.reading import ReadOptions
from client.sources import Source, files_in, open_sources
from client.watching import watch
from client.windows import Windows

logger = logging.getLogger(__name__)

DEFAULT_ASK_S: Final = 5.0
DEFAULT_PATIENCE_S: Final = 600.0
DEFAULT_CLAIMS_ABOVE: Final = 1024 * 1024
_MS_PER_S: Final = 1000.0
_MOST_PER_S: Final = 1000.0


@dataclass(frozen=True, slots=True)
class _Task:
    """What is to be done."""

    url: str
    paths: Sequence[Path]
    reading: ReadOptions
    how: How
    outstanding: int
    watch: bool


def publish(
    recordings: p.Recordings,
    *,
    url: p.Url = p.DEFAULT_URL,
    confidence: p.PublishConfidence = None,
    session: p.PublishSession = None,
    window_ms: p.WindowMs = None,
    rate: p.WindowRate = None,
    sample_rate: p.SampleRate = None,
    freq: p.Frequency = None,
    datatype: p.Datatype = None,
    channels: p.Channels = None,
    time: p.Time = None,
    rx: p.Rx = None,
    receivers: p.ReceiversFile = None,
    resample: p.PublishResample = None,
    ci16: p.PublishCompact = False,
    ask: p.Ask = DEFAULT_ASK_S,
    outstanding: p.Outstanding = DEFAULT_OUTSTANDING,
    patience: p.Patience = DEFAULT_PATIENCE_S,
    realtime: p.Realtime = False,
    journal: p.JournalFile = None,
    watch: p.Watch = False,
    claims: p.Claims = None,
    claims_above: p.ClaimsAbove = DEFAULT_CLAIMS_ABOVE,
    json: p.ConfirmedAsJson = False,
) -> None:
    """Publish recordings window by window; the results come by `heimdall follow`."""
    messages = stderr()
    with told(messages), shown(messages):
        options: PublishOptions = {
            "session_id": session,
            "confidence": confidence or None,
            "store": None if claims is None else ClaimStore(claims, above_bytes=claims_above),
            "patience_s": patience,
        }
        how = How(
            windows=Windows(None if window_ms is None else window_ms / _MS_PER_S, _hop_s(rate)),
            options=options,
            resample=None if resample is None else parse_rate(resample, "--resample"),
            ask_s=ask,
            compact=ci16,
            realtime=realtime,
        )
        reading = ReadOptions(
            sample_rate=None if sample_rate is None else parse_rate(sample_rate, "--sample-rate"),
            center_frequency=None if freq is None else parse_quantity(freq, "--freq"),
            datatype=datatype,
            capture_time=time,
            receivers=given_receivers(rx or [], receivers),
            channels=channels,
        )
        _run(_Task(url, recordings, reading, how, outstanding, watch), journal, messages, json=json)


def _hop_s(rate: str | None) -> float | None:
    if rate is None:
        return None
    windows_per_s = parse_quantity(rate, "--rate")
    if windows_per_s <= 0:
        raise CaptureError(f"--rate {rate}: windows per second are above zero, such as --rate 5")
    if windows_per_s > _MOST_PER_S:
        raise CaptureError(f"--rate {rate}: windows per second; the sample rate of raw IQ is --sample-rate {rate}")
    return 1 / windows_per_s


def _run(task: _Task, journal_file: Path | None, messages: Console, *, json: bool) -> None:
    files = _sources(task)
    progress = Progress(messages, task.how.windows, by_line=json)
    try:
        with Journal(journal_file) as journal, progress:
            asyncio.run(_publish(task, files, journal, progress))
    except KeyboardInterrupt:
        progress.summarise(journal_file, interrupted=not task.watch)
        raise typer.Exit(ExitCode.LOCATED if task.watch else INTERRUPTED) from None
    except BaseException:
        progress.summarise(journal_file, interrupted=True)
        raise
    progress.summarise(journal_file, interrupted=False)


def _sources(task: _Task) -> list[Source]:
    """All that is there at the start, opened: what is wrong with any of it is said before the first is published."""
    folders = [path for path in task.paths if path.is_dir()]
    if task.watch and len(folders) < len(task.paths):
        raise CaptureError("--watch: name folders only")
    if task.watch:
        return []
    files = [file for path in task.paths for file in (files_in(path) if path.is_dir() else [path])]
    if not files:
        raise CaptureError(f"{', '.join(map(str, folders))}: no recording in there")
    return [source for file in files for source in open_sources(file, task.reading)]


async def _publish(task: _Task, sources: Sequence[Source], journal: Journal, progress: Progress) -> None:
    patience_s = task.how.options["patience_s"]
    client = HeimdallClient(task.url, connect_timeout=min(patience_s, DEFAULT_TIMEOUT_S))
    sender = client.sender(outstanding=task.outstanding, patience_s=patience_s)
    await sender.connect()
    async with client:
        publishing = Publishing(client, sender, task.how, journal, progress.confirmed)
        try:
            for source in sources:
                progress.expect(source, publishing)
            for source in sources:
                await publishing.publish(source)
            if task.watch:
                await _follow_folders(task, publishing, progress)
            await sender.drain()
        finally:
            await sender.close()


async def _follow_folders(task: _Task, publishing: Publishing, progress: Progress) -> None:
    logger.info("watching %s; Ctrl-C ends", ", ".join(map(str, task.paths)))
    async for source in watch(task.paths, task.reading):
        try:
            progress.expect(source, publishing)
            await publishing.publish(source)
        except (CaptureError, LocalizationError) as error:  # Of this recording; the next may be better.
            logger.warning("%s: left out: %s", source.name, error)
