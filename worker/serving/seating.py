"""Which job a model takes, and which row of its tensors each receiver gets. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.affinity import translate
from shapely.geometry import box, shape
from shapely.geometry.base import BaseGeometry

from schemas.geo import Point, Receiver
from schemas.problems import ProblemError
from worker.errors import MalformedMetadata, ReceiverMismatch, SampleRateMismatch, TooFewSamples
from worker.geo.wgs84 import geodesic_distance_m
from worker.recording import Recording
from worker.serving.contract import ModelContract, Origin, Slots
from worker.serving.contract_inputs import ReceiverIdsInput

RATE_TOLERANCE: Final = 1e-3
SLOT_TOLERANCE_M: Final = 200.0
AREA_TOLERANCE_M: Final = 500_000.0
_MOST_APPROVED: Final = 4096
UNAMBIGUOUS_RECEIVERS: Final = 3
"""Fewer do not fix a position in the plane without ambiguity."""


@dataclass(frozen=True, slots=True)
class Seats:
    """Where the receivers of one job sit.

    Attributes:
        channels: per row of the receiver axis the channel that sits there, -1 = nobody.
        ignored: receivers that got no seat: (id, reason).
        origin: (latitude, longitude) that relative positions are counted from, degrees; None for absolute ones.
    """

    channels: tuple[int, ...]
    ignored: tuple[tuple[str, str], ...]
    origin: tuple[float, float] | None

    @property
    def occupied(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows that are taken, and the channel of each; not writable."""
        return _occupied(self.channels)

    @property
    def few(self) -> bool:
        """Fewer receivers than fix a position, of a model that could take more."""
        return len(self.occupied[0]) < UNAMBIGUOUS_RECEIVERS <= len(self.channels)


class Admission:
    """The contract's rules on jobs.

    Args:
        contract: the model's.

    Raises:
        ValueError, shapely.errors.ShapelyError: the contract's area is no polygon.
    """

    def __init__(self, contract: ModelContract) -> None:
        self._contract = contract
        self._area = _geometry(contract)
        self._rows: dict[str, int] = {}
        self._approved: set[Receiver] = set()
        if isinstance(contract.receivers, Slots):
            self._rows = {slot.id: row for row, slot in enumerate(contract.receivers.slots)}

    def check(self, recording: Recording) -> None:
        """Refuse what the model does not take, by the metadata alone.

        Raises:
            SampleRateMismatch, TooFewSamples, MalformedMetadata, ReceiverMismatch: with what would be right.
        """
        self._check_rate(recording.sample_rate)
        self._check_length(recording)
        self._check_frequency(recording)
        self._check_receivers(recording)

    def seat(self, receivers: Sequence[Receiver], n_channels: int, powers: Callable[[], NDArray[np.float64]]) -> Seats:
        """Give each channel its row.

        Args:
            receivers: one per channel, or empty where the job names none.
            n_channels: of the recording.
            powers: mean power per channel, asked only when there are more channels than rows.
        """
        capacity = self._contract.capacity
        if self._rows:
            channels = [-1] * capacity
            for channel, receiver in enumerate(receivers):
                channels[self._rows[receiver.id]] = channel
            return Seats(tuple(channels), (), self._origin(receivers, range(n_channels)))
        kept = list(range(n_channels))
        if n_channels > capacity:
            kept = sorted(np.argsort(-powers(), kind="stable")[:capacity].tolist())
        dropped = sorted(set(range(n_channels)) - set(kept))
        reason = f"the model takes {capacity} receivers: the strongest were kept"
        ignored = tuple((receivers[c].id if receivers else f"channel {c}", reason) for c in dropped)
        return Seats(tuple(kept + [-1] * (capacity - len(kept))), ignored, self._origin(receivers, kept))

    def reseat(self, receivers: Sequence[Receiver], n_channels: int, channels: Sequence[int]) -> Seats:
        """The seats a former identical job had, without its powers."""
        kept = set(channels)
        powers = np.array([1.0 if channel in kept else 0.0 for channel in range(n_channels)])
        return self.seat(receivers, n_channels, lambda: powers)

    def outside_area(self, latitude_deg: NDArray[np.float64], longitude_deg: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether each fix lies outside the area the model is valid in, (B,)."""
        if self._area is None:
            return np.zeros(len(latitude_deg), dtype=bool)
        return np.asarray(~shapely.intersects_xy(self._area, longitude_deg, latitude_deg))

    def _check_rate(self, rate: float | None) -> None:
        wanted = self._contract.sample_rate
        if rate is None and wanted is None:
            raise MalformedMetadata("sample_rate is missing: the model takes any, so the job must state its own")
        if rate is None or wanted is None or abs(rate - wanted) <= RATE_TOLERANCE * wanted:
            return
        detail = f"the model takes {wanted:g} Hz (to 0.1 %), the job has {rate:g} Hz"
        raise SampleRateMismatch(
            detail, [ProblemError(detail=detail, pointer="global/core:sample_rate", expected=wanted)]
        )

    def _check_length(self, recording: Recording) -> None:
        wanted = self._contract.required_samples
        for index, (_, count) in enumerate(recording.ranges):
            if count < wanted:
                detail = f"sample {index} has {count} samples per receiver; the model needs at least {wanted}"
                raise TooFewSamples(detail, [ProblemError(detail=detail, expected=wanted)])

    def _check_frequency(self, recording: Recording) -> None:
        if recording.center_frequency_hz is None and self._contract.needs_center_frequency:
            raise MalformedMetadata("the model needs the centre frequency: state core:frequency (or center_frequency)")

    def _check_receivers(self, recording: Recording) -> None:
        least = self._contract.receivers.min_present
        if recording.channels < least:
            raise ReceiverMismatch(f"the model needs at least {least} receivers, the job has {recording.channels}")
        if not recording.receivers:
            if self._contract.needs_positions:
                raise ReceiverMismatch("the model needs to know its receivers: name them in heimdall:receivers")
            if self._contract.level == "dbm":
                raise ReceiverMismatch("the model works in dBm: state heimdall:receivers with their full_scale_dbm")
        for index, receiver in enumerate(recording.receivers):
            if receiver not in self._approved:
                self._check_receiver(receiver, f"heimdall:receivers[{index}] ({receiver.id})")
                self._approve(receiver)

    def _approve(self, receiver: Receiver) -> None:
        """Remember it: a network's receivers come with every job, and geodesics to their places take long."""
        if len(self._approved) >= _MOST_APPROVED:
            self._approved.clear()
        self._approved.add(receiver)

    def _check_receiver(self, receiver: Receiver, where: str) -> None:
        place = receiver.geolocation
        far = self._metres_from_area(place.longitude, place.latitude)
        if far > AREA_TOLERANCE_M:
            raise ReceiverMismatch(
                f"{where} stands at longitude {place.longitude:g}, latitude {place.latitude:g}, which is "
                f"{far / 1000:.0f} km from the model's area: in GeoJSON longitude comes first"
            )
        if self._rows:
            self._check_slot(receiver, where)
        if self._contract.level == "dbm" and receiver.full_scale_dbm is None:
            raise ReceiverMismatch(f"{where} states no full_scale_dbm; the model works in dBm")
        for bound in self._contract.inputs.values():
            known = bound.known if isinstance(bound, ReceiverIdsInput) else None
            if known is not None and receiver.id not in known:
                raise ReceiverMismatch(f"{where} is not known to the model; known are {_some(known)}")

    def _check_slot(self, receiver: Receiver, where: str) -> None:
        row = self._rows.get(receiver.id)
        if row is None:
            raise ReceiverMismatch(f"{where} is not known to the model; known are {_some(self._rows)}")
        assert isinstance(self._contract.receivers, Slots)
        slot, place = self._contract.receivers.slots[row].geolocation, receiver.geolocation
        off = _distance_m(slot.latitude, slot.longitude, place.latitude, place.longitude)
        if off > SLOT_TOLERANCE_M:
            raise ReceiverMismatch(
                f"{where} stands {off:.0f} m from where the model was trained with it "
                f"({slot.longitude:g}, {slot.latitude:g}); the tolerance is {SLOT_TOLERANCE_M:.0f} m"
            )

    def _metres_from_area(self, longitude: float, latitude: float) -> float:
        if self._area is None or shapely.intersects_xy(self._area, longitude, latitude):
            return 0.0
        nearest = shapely.shortest_line(shapely.Point(longitude, latitude), self._area).coords[1]
        return _distance_m(latitude, longitude, nearest[1], nearest[0])

    def _origin(self, receivers: Sequence[Receiver], kept: Sequence[int]) -> tuple[float, float] | None:
        match self._contract.position.origin:
            case Origin(latitude=latitude, longitude=longitude):
                return latitude, longitude
            case "centroid":
                return _centroid([receivers[channel].geolocation for channel in kept])
            case None:
                return None


@lru_cache(maxsize=1024)
def _occupied(channels: tuple[int, ...]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    # The receivers of a network sit alike in most of its jobs.
    sitting = np.asarray(channels, dtype=np.intp)
    rows = np.flatnonzero(sitting >= 0)
    taken = sitting[rows]
    for shared in (rows, taken):
        shared.flags.writeable = False
    return rows, taken


def _geometry(contract: ModelContract) -> BaseGeometry | None:
    match contract.area:
        case None:
            return None
        case dict() as polygon:
            area = _polygon(polygon)
        case west, south, east, north:
            parts = [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]  # RFC 7946, section 5.2
            area = shapely.union_all([box(left, south, right, north) for left, right in parts])
    # Once more at either side: next to a seam at ±180° the area is near, whichever sign a longitude there has.
    around = [translate(area, turn) for turn in (-360.0, 0.0, 360.0)]
    area = shapely.multipolygons(shapely.get_parts(around))
    shapely.prepare(area)
    return area


def _polygon(area: dict[str, Any]) -> BaseGeometry:
    """A GeoJSON Polygon; a ValueError where its coordinates are none, whatever they are."""
    try:
        return shape(area)
    except (TypeError, LookupError, AttributeError) as error:
        raise ValueError(f"its coordinates are no rings of [longitude, latitude]: {error}") from error


def _centroid(places: Sequence[Point]) -> tuple[float, float]:
    """Mean latitude and longitude, degrees; longitudes are counted from the first, so that +-180 is no seam."""
    first = places[0].longitude
    offsets = [(place.longitude - first + 180.0) % 360.0 - 180.0 for place in places]
    longitude = (first + float(np.mean(offsets)) + 180.0) % 360.0 - 180.0
    return float(np.mean([place.latitude for place in places])), longitude


def _distance_m(latitude: float, longitude: float, other_latitude: float, other_longitude: float) -> float:
    return float(geodesic_distance_m(latitude, longitude, other_latitude, other_longitude))


def _some(names: Sequence[str] | dict[str, int], most: int = 8) -> str:
    listed = list(names)
    return ", ".join(listed[:most]) + (f", … ({len(listed)})" if len(listed) > most else "")
