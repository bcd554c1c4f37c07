"""`heimdall locate FILE…`: send recordings, print positions.

Results go to standard output, everything else to standard error. Exit codes: 0 all located; 1 a worker answered with
an error; 2 an input or an option is wrong, nothing was sent; 3 the broker did not answer, or did not take a job.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import orjson
import typer
from rich.console import Console

from client.capture import Capture
from client.client import HeimdallClient
from client.commands import parameters as p
from client.commands.exits import ExitCode, exit_code_of
from client.commands.messages import shown, stderr
from client.errors import BrokerUnreachable, CaptureError, HeimdallError, LocalizationError
from client.files import load
from client.job import make_job
from client.options import DEFAULT_TIMEOUT_S, JobOptions
from client.quantities import given_receivers, parse_quantity, parse_rate
from client.raw_iq import STDIN
from client.reading import Loaded, ReadOptions, Window
from client.replies import Answer
from client.report import describe_answer, describe_error, merged_geojson

_CONCURRENCY = 8


@dataclass(frozen=True, slots=True)
class Outcome:
    """A file and what became of it."""

    name: str
    answer: Answer | HeimdallError


def locate(
    files: p.Files,
    *,
    url: p.Url = p.DEFAULT_URL,
    confidence: p.Confidence = None,
    session: p.Session = None,
    timeout: p.Timeout = DEFAULT_TIMEOUT_S,
    job_id: p.JobId = None,
    rate: p.Rate = None,
    freq: p.Frequency = None,
    datatype: p.Datatype = None,
    channels: p.Channels = None,
    time: p.Time = None,
    rx: p.Rx = None,
    receivers: p.ReceiversFile = None,
    capture: p.CaptureIndex = 0,
    start: p.Start = 0.0,
    duration: p.Duration = None,
    samples: p.Samples = None,
    resample: p.Resample = None,
    ci16: p.Compact = False,
    geojson: p.AsGeojson = False,
    json: p.AsJson = False,
) -> None:
    """Locate the transmitter in each recording."""
    messages = stderr()
    try:
        _check_together(files, job_id=job_id, geojson=geojson, json=json)
        window = _window(start, duration, samples)
        reading = ReadOptions(
            sample_rate=None if rate is None else parse_rate(rate, "--rate or --sample-rate"),
            center_frequency=None if freq is None else parse_quantity(freq, "--freq"),
            datatype=datatype,
            capture_time=time,
            receivers=given_receivers(rx or [], receivers),
            channels=channels,
            capture=capture,
            resample=None if resample is None else parse_rate(resample, "--resample"),
            window=window,
        )
        loaded = [_load(file, reading, messages, compact=ci16) for file in files]
        asked = _job_options(job_id, session, confidence, timeout)
        _check_sendable(loaded, asked)
        outcomes = _run(url, loaded, asked, messages)
    except CaptureError as error:
        messages.print(f"heimdall: {error}", soft_wrap=True)
        raise typer.Exit(ExitCode.USAGE) from None
    _print(outcomes, messages, geojson=geojson, json=json)
    raise typer.Exit(max(_exit_code(outcome) for outcome in outcomes))


def _check_together(files: Sequence[str], *, job_id: str | None, geojson: bool, json: bool) -> None:
    if job_id is not None and len(files) > 1:
        raise CaptureError("--job-id names one job: give one FILE with it")
    if files.count(STDIN) > 1:
        raise CaptureError("standard input can be read once: give - once")
    if geojson and json:
        raise CaptureError("--geojson and --json: choose one")


def _window(start_s: float, duration_s: float | None, samples: int | None) -> Window:
    if duration_s is not None and samples is not None:
        raise CaptureError("--duration and --samples: choose one")
    return Window(start_s, duration_s, samples)


def _load(file: str, reading: ReadOptions, messages: Console, *, compact: bool) -> Loaded:
    loaded = load(file, reading)
    for note in loaded.notes:
        messages.print(note, style="dim", soft_wrap=True)
    return replace(loaded, capture=_compact(loaded.capture)) if compact else loaded


def _compact(capture: Capture) -> Capture:
    return replace(capture, samples=capture.array(), datatype="ci16_le", channels=None)


def _job_options(
    job_id: str | None, session: str | None, confidence: Sequence[float] | None, timeout: float
) -> JobOptions:
    return {
        "job_id": job_id,
        "session_id": session,
        "confidence": confidence or None,
        "timeout": timeout,
        "resample": True,
    }


def _check_sendable(loaded: Sequence[Loaded], options: JobOptions) -> None:
    """Find what is wrong with any file before the first is sent."""
    for one in loaded:
        make_job(
            one.capture,
            user_id=None,
            job_id=options["job_id"],
            session_id=options["session_id"],
            confidence=options["confidence"],
        )


def _run(url: str, loaded: Sequence[Loaded], options: JobOptions, messages: Console) -> list[Outcome]:
    with shown(messages), messages.status("locating …"):
        return asyncio.run(_ask_all(url, loaded, options))


async def _ask_all(url: str, loaded: Sequence[Loaded], options: JobOptions) -> list[Outcome]:
    try:
        async with HeimdallClient(url, connect_timeout=options["timeout"]) as client:
            places = asyncio.Semaphore(_CONCURRENCY)
            return await asyncio.gather(*(_ask(client, one, options, places) for one in loaded))
    except BrokerUnreachable as error:
        return [Outcome("", error)]


async def _ask(client: HeimdallClient, loaded: Loaded, options: JobOptions, places: asyncio.Semaphore) -> Outcome:
    async with places:
        try:
            return Outcome(loaded.name, await client.request(loaded.capture, **options))
        except HeimdallError as error:
            return Outcome(loaded.name, error)


def _print(outcomes: Sequence[Outcome], messages: Console, *, geojson: bool, json: bool) -> None:
    results = Console(markup=False, highlight=False)
    answers = [outcome.answer for outcome in outcomes if not isinstance(outcome.answer, HeimdallError)]
    if geojson and answers:
        typer.echo(orjson.dumps(merged_geojson(answers)))
    for outcome in outcomes:
        if isinstance(outcome.answer, HeimdallError):
            messages.print(describe_error(outcome.name, outcome.answer), soft_wrap=True)
        if json:
            _print_line(outcome.answer)
        elif not geojson and not isinstance(outcome.answer, HeimdallError):
            results.print(describe_answer(outcome.name, outcome.answer))


def _print_line(answer: Answer | HeimdallError) -> None:
    document = answer.problem if isinstance(answer, LocalizationError) else answer
    if not isinstance(document, HeimdallError):
        typer.echo(document.model_dump_json())


def _exit_code(outcome: Outcome) -> ExitCode:
    if not isinstance(outcome.answer, HeimdallError):
        return ExitCode.LOCATED
    return exit_code_of(outcome.answer)
