"""Options of the commands, named once so that their signatures stay readable."""

from pathlib import Path
from typing import Annotated

import typer

_BROKER = "Broker and job"
_RAW = "Raw IQ and .npy: what the file does not say"
_PART = "Which part"
_OUTPUT = "Output"
_WINDOWS = "Windows"
_FLOW = "How it is published"

DEFAULT_URL = "amqp://guest:guest@localhost:5672/"

Files = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE…",
        help="SigMF recordings (.sigmf-meta) and collections (.sigmf-collection), .npy arrays, raw IQ, or - for stdin.",
    ),
]
Url = Annotated[str, typer.Option("--url", envvar="HEIMDALL_AMQP_URL", help="Of RabbitMQ.", rich_help_panel=_BROKER)]
Confidence = Annotated[
    list[float] | None,
    typer.Option("--confidence", help="Of an ellipse, such as 0.95; repeatable.", rich_help_panel=_BROKER),
]
Session = Annotated[
    str | None, typer.Option("--session", help="Groups the fixes of one source.", rich_help_panel=_BROKER)
]
Timeout = Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds per file.", rich_help_panel=_BROKER)]
JobId = Annotated[
    str | None,
    typer.Option(
        "--job-id", help="Asks again for the outcome of a job sent before, unchanged.", rich_help_panel=_BROKER
    ),
]
Rate = Annotated[
    str | None,
    typer.Option("--rate", "--sample-rate", metavar="RATE", help="Sample rate: 2.4M, 50k.", rich_help_panel=_RAW),
]
Frequency = Annotated[
    str | None, typer.Option("--freq", metavar="FREQ", help="Centre frequency: 433.92M.", rich_help_panel=_RAW)
]
Datatype = Annotated[
    str | None, typer.Option("--datatype", help="cf32_le, ci16_le, cu8, …; else by suffix.", rich_help_panel=_RAW)
]
Channels = Annotated[
    int | None,
    typer.Option("--channels", min=1, help="Interleaved; default: one per receiver.", rich_help_panel=_RAW),
]
Time = Annotated[
    str | None, typer.Option("--time", help="Of the first sample, RFC 3339, to the nanosecond.", rich_help_panel=_RAW)
]
Rx = Annotated[
    list[str] | None,
    typer.Option(
        "--rx", metavar="ID=LAT,LON[,ALT]", help="A receiver; repeatable, one per channel.", rich_help_panel=_RAW
    ),
]
ReceiversFile = Annotated[
    Path | None,
    typer.Option("--receivers", metavar="FILE", help="Receivers as GeoJSON Points.", rich_help_panel=_RAW),
]
CaptureIndex = Annotated[
    int,
    typer.Option("--capture", min=0, help="Of a SigMF recording with several captures.", rich_help_panel=_PART),
]
Start = Annotated[float, typer.Option("--start", min=0, help="Seconds to skip.", rich_help_panel=_PART)]
Duration = Annotated[float | None, typer.Option("--duration", help="Seconds to locate.", rich_help_panel=_PART)]
Samples = Annotated[
    int | None, typer.Option("--samples", min=1, help="Instead of --duration, per channel.", rich_help_panel=_PART)
]
Resample = Annotated[
    str | None,
    typer.Option(
        "--resample",
        metavar="RATE",
        help="Send at this rate. Else at the recording's own; a worker that wants another is given it.",
        rich_help_panel=_PART,
    ),
]
Compact = Annotated[
    bool, typer.Option("--ci16", help="Send as 16-bit integers: half of cf32's bytes.", rich_help_panel=_PART)
]
AsGeojson = Annotated[
    bool, typer.Option("--geojson", help="Print one GeoJSON FeatureCollection.", rich_help_panel=_OUTPUT)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print each answer as a line of JSON.", rich_help_panel=_OUTPUT)]

Recordings = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE|FOLDER…",
        help="SigMF recordings and collections, .npy arrays, raw IQ; or folders of these.",
    ),
]
WindowMs = Annotated[
    float | None,
    typer.Option(
        "--window-ms", help="Length of a window; each is a job. Else a file is one job.", rich_help_panel=_WINDOWS
    ),
]
WindowRate = Annotated[
    str | None,
    typer.Option(
        "--rate", metavar="N", help="Windows per second of recording; else back to back.", rich_help_panel=_WINDOWS
    ),
]
SampleRate = Annotated[
    str | None,
    typer.Option("--sample-rate", metavar="RATE", help="Of raw IQ and .npy: 2.4M, 50k.", rich_help_panel=_RAW),
]
PublishResample = Annotated[
    str | None,
    typer.Option(
        "--resample",
        metavar="RATE",
        help="Publish at this rate. Else at the recording's own, or at the one that a worker asks for.",
        rich_help_panel=_FLOW,
    ),
]
PublishCompact = Annotated[
    bool, typer.Option("--ci16", help="Publish as 16-bit integers: half of cf32's bytes.", rich_help_panel=_FLOW)
]
PublishConfidence = Annotated[
    list[float] | None,
    typer.Option("--confidence", help="Of an ellipse, such as 0.95; repeatable.", rich_help_panel=_BROKER),
]
PublishSession = Annotated[
    str | None,
    typer.Option("--session", help="Groups the fixes of one source; else the file's name.", rich_help_panel=_BROKER),
]
Ask = Annotated[
    float,
    typer.Option(
        "--ask",
        min=0,
        metavar="SECONDS",
        help="How long to wait for a worker's answer to the first window; 0 = do not ask.",
        rich_help_panel=_FLOW,
    ),
]
Outstanding = Annotated[
    int, typer.Option("--outstanding", min=1, max=1000, help="Confirms awaited at a time.", rich_help_panel=_FLOW)
]
Patience = Annotated[
    float,
    typer.Option(
        "--patience",
        min=1,
        metavar="SECONDS",
        help="How long the broker may be full or away, at the start too.",
        rich_help_panel=_FLOW,
    ),
]
Realtime = Annotated[bool, typer.Option("--realtime", help="No faster than it was recorded.", rich_help_panel=_FLOW)]
JournalFile = Annotated[
    Path | None,
    typer.Option(
        "--journal",
        metavar="FILE",
        help="Notes what is confirmed; with the same file a restart goes on there.",
        rich_help_panel=_FLOW,
    ),
]
Watch = Annotated[
    bool,
    typer.Option("--watch", help="Go on with what comes into the folders, until Ctrl-C.", rich_help_panel=_FLOW),
]
Claims = Annotated[
    str | None,
    typer.Option(
        "--claims",
        metavar="PREFIX",
        help="Where bodies go that are too large for a message: s3://bucket/prefix or file:///folder.",
        rich_help_panel=_FLOW,
    ),
]
ClaimsAbove = Annotated[
    int,
    typer.Option("--claims-above", min=0, metavar="BYTES", help="What is too large.", rich_help_panel=_FLOW),
]
ConfirmedAsJson = Annotated[
    bool, typer.Option("--json", help="Print each confirmed job as a line of JSON.", rich_help_panel=_OUTPUT)
]

FollowSession = Annotated[
    str | None,
    typer.Option("--session", help="Only fixes and failures of this session.", rich_help_panel=_BROKER),
]
Count = Annotated[int | None, typer.Option("--count", min=1, help="End after so many results.", rich_help_panel=_FLOW)]
FollowTimeout = Annotated[
    float | None,
    typer.Option("--timeout", min=0.1, metavar="SECONDS", help="End after so long.", rich_help_panel=_FLOW),
]
AsGeojsonSeq = Annotated[
    bool,
    typer.Option("--geojson-seq", help="Write GeoJSON features, a text each (RFC 8142).", rich_help_panel=_OUTPUT),
]
AsCot = Annotated[bool, typer.Option("--cot", help="Write Cursor on Target XML.", rich_help_panel=_OUTPUT)]
Stale = Annotated[
    float,
    typer.Option(
        "--stale", min=1, metavar="SECONDS", help="Life of a Cursor on Target event.", rich_help_panel=_OUTPUT
    ),
]

Jobs = Annotated[list[str], typer.Argument(metavar="JOB…", help="Job ids.")]
RedisUrl = Annotated[
    str,
    typer.Option("--redis", envvar="HEIMDALL_REDIS_URL", help="URL of the workers' Redis.", rich_help_panel=_BROKER),
]
Wait = Annotated[
    float,
    typer.Option("--wait", min=0, metavar="SECONDS", help="For outcomes to come.", rich_help_panel=_BROKER),
]
