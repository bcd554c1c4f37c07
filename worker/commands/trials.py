"""Recordings to try a model with: silence, noise and tones, from its fewest to its most receivers."""

from dataclasses import dataclass
from itertools import cycle
from typing import Final

import numpy as np
from numpy.typing import NDArray
from shapely.geometry import box, shape

from schemas.geo import Point, Receiver
from schemas.sigmf import MAX_CHANNELS
from worker.recording import Recording
from worker.serving.contract import ModelContract, Origin, slot_receivers
from worker.serving.contract_inputs import LogMelInput, ReceiverIdsInput

KINDS: Final = ("silence", "noise", "tone", "loud noise")
_SEED: Final = 20
_RATE_HZ: Final = 48_000.0
_FREQUENCY_HZ: Final = 145.5e6
_FULL_SCALE_DBM: Final = -60.0
_ANYWHERE: Final = (45.07, 7.69)
_RADIUS_DEG: Final = 0.2


@dataclass(frozen=True, slots=True)
class Trial:
    """A recording and what it is called in the report."""

    label: str
    recording: Recording


def trials(contract: ModelContract, count: int) -> list[Trial]:
    """Made-up recordings of one length, the same ones at every call.

    The first `2 * len(KINDS)` are every kind with the fewest and with the most receivers; the others vary both.
    """
    network = _network(contract)
    fewest = min(contract.receivers.min_present, len(network))
    rng = np.random.default_rng(_SEED)
    planned = [(kind, number) for number in sorted({fewest, len(network)}) for kind in KINDS]
    others = cycle(KINDS[1:])
    while len(planned) < count:
        planned.append((next(others), int(rng.integers(fewest, len(network) + 1))))
    return [_trial(contract, kind, _some(network, number, rng), rng) for kind, number in planned[:count]]


def _trial(contract: ModelContract, kind: str, receivers: list[Receiver], rng: np.random.Generator) -> Trial:
    n_samples, n_channels = contract.required_samples, len(receivers)
    samples = _samples(kind, n_channels, n_samples, rng)
    recording = Recording(
        datatype=None,
        body=(samples,),
        channels=n_channels,
        ranges=((0, n_samples),),
        batch=False,
        sample_rate=_rate(contract),
        center_frequency_hz=_FREQUENCY_HZ,
        capture_time=None,
        receivers=tuple(receivers),
    )
    return Trial(f"{kind}, {n_channels} receiver{'s' if n_channels > 1 else ''}", recording)


def _samples(kind: str, n_channels: int, n_samples: int, rng: np.random.Generator) -> NDArray[np.complex64]:
    if kind == "silence":
        return np.zeros((n_channels, n_samples), np.complex64)
    noise = rng.normal(0, 1, (2, n_channels, n_samples))
    samples = (0.3 if kind == "loud noise" else 0.01) * (noise[0] + 1j * noise[1])
    if kind == "tone":
        # One transmitter, at another strength in each receiver.
        carrier = np.exp(2j * np.pi * rng.uniform(-0.4, 0.4) * np.arange(n_samples))
        samples += 10 ** rng.uniform(-2.5, -0.3, (n_channels, 1)) * carrier
    return np.asarray(samples, dtype=np.complex64)


def _some(network: list[Receiver], number: int, rng: np.random.Generator) -> list[Receiver]:
    return [network[i] for i in sorted(rng.choice(len(network), number, replace=False).tolist())]


def _network(contract: ModelContract) -> list[Receiver]:
    """The contract's own receivers where it names them, else a ring in its area."""
    named = slot_receivers(contract)
    if named:
        return [receiver.model_copy(update={"full_scale_dbm": _FULL_SCALE_DBM}) for receiver in named]
    number = min(max(contract.capacity, contract.receivers.min_present), MAX_CHANNELS)
    ids = _known_ids(contract)
    if ids is not None:
        number = min(number, len(ids))
    latitude, longitude, radius = _middle(contract)
    angles = 2 * np.pi * np.arange(number) / max(number, 1)
    return [
        Receiver(
            id=ids[i] if ids else f"rx{i}",
            geolocation=Point(coordinates=(longitude + radius * np.cos(angle), latitude + radius * np.sin(angle))),
            full_scale_dbm=_FULL_SCALE_DBM,
        )
        for i, angle in enumerate(angles.tolist())
    ]


def _known_ids(contract: ModelContract) -> list[str] | None:
    """Ids that every table knows; None where any id will do."""
    tables = [bound.known for bound in contract.inputs.values() if isinstance(bound, ReceiverIdsInput)]
    known = [table for table in tables if table is not None]
    return [name for name in known[0] if all(name in table for table in known)] if known else None


def _middle(contract: ModelContract) -> tuple[float, float, float]:
    """Latitude and longitude of the ring's middle, and its radius in degrees."""
    if contract.area is not None:
        area = shape(contract.area) if isinstance(contract.area, dict) else box(*contract.area)
        west, south, east, north = area.bounds
        return (south + north) / 2, (west + east) / 2, min(east - west, north - south) / 4
    origin = contract.position.origin
    if isinstance(origin, Origin):
        return origin.latitude, origin.longitude, _RADIUS_DEG
    return *_ANYWHERE, _RADIUS_DEG


def _rate(contract: ModelContract) -> float:
    nominal = (bound.sample_rate for bound in contract.inputs.values() if isinstance(bound, LogMelInput))
    return contract.sample_rate or next(nominal, _RATE_HZ)
