"""Locate radio transmitters: the Python client of Heimdall.

from client import Capture, HeimdallClient, receiver

async with HeimdallClient("amqp://user:password@localhost/") as client:
    result = await client.locate(
        Capture(
            samples=iq,  # (receivers, N) complex
            sample_rate=50e3,
            center_frequency=145.5e6,
            receivers=[receiver("Torino", latitude=45.044, longitude=7.672), ...],
        ),
        timeout=10,
    )
print(result.position, result.ellipse)
"""

from client.capture import Capture, receiver
from client.claim_store import ClaimStore
from client.client import HeimdallClient
from client.errors import (
    BadReply,
    BrokerUnreachable,
    CaptureError,
    HeimdallError,
    LocalizationError,
    LocalizationTimeout,
    PublishRefused,
)
from client.files import load
from client.following import follow
from client.options import JobOptions, PublishOptions
from client.reading import Loaded, ReadOptions, Window
from client.windows import cut
from schemas.geo import Point, Receiver
from schemas.problems import ErrorCode, Problem
from schemas.result import BatchResult, LocalizationResult
from schemas.sigmf import SampleRange

__all__ = [
    "BadReply",
    "BatchResult",
    "BrokerUnreachable",
    "Capture",
    "CaptureError",
    "ClaimStore",
    "ErrorCode",
    "HeimdallClient",
    "HeimdallError",
    "JobOptions",
    "Loaded",
    "LocalizationError",
    "LocalizationResult",
    "LocalizationTimeout",
    "Point",
    "Problem",
    "PublishOptions",
    "PublishRefused",
    "ReadOptions",
    "Receiver",
    "SampleRange",
    "Window",
    "cut",
    "follow",
    "load",
    "receiver",
]
