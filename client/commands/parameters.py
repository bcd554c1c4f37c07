"""Options of `heimdall locate`, named once so that the command's signature stays readable."""

from pathlib import Path
from typing import Annotated

import typer

_BROKER = "Broker and job"
_RAW = "Raw IQ and .npy: what the file does not say"
_PART = "Which part"
_OUTPUT = "Output"

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
    str | None, typer.Option("--rate", metavar="RATE", help="Sample rate: 2.4M, 50k.", rich_help_panel=_RAW)
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
