"""What people type: numbers with a prefix, receivers as ID=LAT,LON[,ALT], files of receivers."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson
from pydantic import ValidationError

from client.capture import receiver
from client.errors import CaptureError
from schemas.geo import Point, Receiver

_NUMBER: Final = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([kKMG]?)(?:Hz|S/s|s)?", re.ASCII)
_PREFIX: Final = {"": 1, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}
_WITHOUT_ALTITUDE: Final = 2
_WITH_ALTITUDE: Final = 3


def parse_quantity(text: str, what: str) -> float:
    """Read a number such as `2.4M`, `50k`, `433.92e6` or `433.92MHz`.

    Args:
        text: as typed.
        what: the option, for the message.

    Raises:
        CaptureError: no such number.
    """
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        raise CaptureError(f"{what}: {text!r} is not a number such as 2.4M, 50k or 433.92e6")
    # A binary 433.92 times 1e6 may miss 433920000 by its last bit; a microhertz is finer than any clock.
    return round(float(match[1]) * _PREFIX[match[2]], 6)


def parse_rate(text: str, what: str) -> float:
    """Read a sample rate, hertz.

    Args:
        text: as typed.
        what: the option, for the message.

    Raises:
        CaptureError: no number, or not above zero.
    """
    rate = parse_quantity(text, what)
    if rate <= 0:
        raise CaptureError(f"{what}: a sample rate is above zero, not {text}")
    return rate


def parse_receiver(text: str) -> Receiver:
    """Read `ID=LAT,LON[,ALT]`, in degrees and metres.

    Raises:
        CaptureError: another form, or no place on Earth.
    """
    form = f"--rx {text!r}: it must be ID=LAT,LON or ID=LAT,LON,ALT, such as Torino=45.044,7.672,250"
    name, equals, place = text.partition("=")
    parts = place.split(",")
    if not (equals and name and len(parts) in (_WITHOUT_ALTITUDE, _WITH_ALTITUDE)):
        raise CaptureError(form)
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        raise CaptureError(form) from None
    altitude_m = numbers[2] if len(numbers) == _WITH_ALTITUDE else None
    return receiver(name, latitude=numbers[0], longitude=numbers[1], altitude_m=altitude_m)


def given_receivers(rx: Sequence[str], file: Path | None) -> tuple[Receiver, ...]:
    """The receivers of `--rx` or of `--receivers`.

    Raises:
        CaptureError: both are given, or one is not valid.
    """
    if rx and file is not None:
        raise CaptureError("--rx and --receivers: choose one")
    return tuple(map(parse_receiver, rx)) if file is None else read_receivers(file)


def read_receivers(path: Path) -> tuple[Receiver, ...]:
    """Read receivers from a GeoJSON FeatureCollection of Points.

    Each feature's `id`, or its property `id` or `name`, is the receiver's id; the properties `time_error_ns` and
    `full_scale_dbm` are taken over.

    Raises:
        CaptureError: no such file, or not of that form; the message names the feature.
    """
    try:
        document = orjson.loads(path.read_bytes())
    except OSError as error:
        raise CaptureError(f"--receivers {path}: {error.strerror}") from None
    except orjson.JSONDecodeError as error:
        raise CaptureError(f"--receivers {path}: no JSON: {error}") from None
    features = document.get("features") if isinstance(document, dict) else None
    if not isinstance(features, list) or not features:
        raise CaptureError(f"--receivers {path}: it must be a GeoJSON FeatureCollection with at least one Point")
    return tuple(_feature(feature, f"--receivers {path}: features[{index}]") for index, feature in enumerate(features))


def _feature(feature: Any, where: str) -> Receiver:
    if not isinstance(feature, dict):
        raise CaptureError(f"{where}: no GeoJSON Feature")
    properties: Mapping[str, Any] = feature.get("properties") or {}
    name = feature.get("id", properties.get("id", properties.get("name")))
    if name is None:
        raise CaptureError(f"{where}: give it an `id`, or a property `id` or `name`")
    try:
        return Receiver(
            id=str(name),
            geolocation=Point.model_validate(feature.get("geometry")),
            time_error_ns=properties.get("time_error_ns"),
            full_scale_dbm=properties.get("full_scale_dbm"),
        )
    except ValidationError as error:
        raise CaptureError(f"{where}: {error.errors(include_url=False)[0]['msg']}; longitude comes first") from None
