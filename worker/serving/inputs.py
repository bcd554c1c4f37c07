"""From captures to the input tensors of a graph, as the contract says. Pure.

Tensors are kept in canonical axis order (batch, receiver, then the feature's own), so that an item is one contiguous
row; `FeaturePlan.feed` transposes where a graph wants another order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from worker.dsp.crop_pad import crop_or_pad
from worker.dsp.log_mel import LogMel
from worker.dsp.receiver_features import mean_power, receiver_features
from worker.errors import NonFiniteIq
from worker.geo.wgs84 import wgs84_to_enu
from worker.recording import IqCapture
from worker.serving.contract import ModelContract
from worker.serving.contract_inputs import (
    Column,
    IqInput,
    LogMelInput,
    ReceiverFeaturesInput,
    ReceiverIdsInput,
    ReceiverMaskInput,
    ReceiverPositionsInput,
)
from worker.serving.seating import Seats

Tensors = dict[str, NDArray[np.generic]]

_CANONICAL: Final = ("batch", "receiver", "mel", "frame", "iq", "sample", "column")
_IQ_COMPONENTS: Final = 2
_DB_PER_KILO: Final = 30.0


@dataclass(frozen=True, slots=True)
class Item:
    """A capture and where its receivers sit."""

    capture: IqCapture
    seats: Seats


class FeaturePlan:
    """Everything about a contract's inputs that can be computed once.

    Args:
        contract: the model's.

    Raises:
        ValueError: a mel filter is empty, or the figures of a spectrogram do not fit together.
    """

    def __init__(self, contract: ModelContract) -> None:
        self._contract = contract
        self._log_mels = {n: LogMel(i.spec) for n, i in contract.inputs.items() if isinstance(i, LogMelInput)}

    def powers(self, capture: IqCapture) -> NDArray[np.float64]:
        """Mean power of each channel, (R,); what `strongest` is decided by."""
        return np.asarray(mean_power(capture.samples), dtype=np.float64)

    def shape_key(self, n_samples: int) -> tuple[int, ...]:
        """What must agree between items of one run: the number of frames of each spectrogram without fixed frames."""
        return tuple(log_mel.spec.frames_in(n_samples) for log_mel in self._log_mels.values())

    def allocate(self, n_items: int, n_samples: int) -> Tensors:
        """Tensors for a run, filled as for absent receivers, in canonical axis order."""
        tensors: Tensors = {}
        for name, bound in self._contract.inputs.items():
            shape = (n_items, self._contract.capacity, *self._item_shape(name, n_samples))
            tensors[name] = np.full(shape, self._fill_value(name), dtype=bound.dtype)
        return tensors

    def fill(self, tensors: Tensors, index: int, item: Item) -> None:
        """Compute the features of one item into row `index`.

        Raises:
            NonFiniteIq: the features overflow: the samples are far beyond full scale.
            ValueError: the capture was read in another level than the contract's.
        """
        if item.capture.level != self._contract.level:
            raise ValueError(f"the capture is in {item.capture.level}, the contract in {self._contract.level}")
        rows, channels = item.seats.occupied
        samples = _in_order(item.capture.samples, channels)
        for name, bound in self._contract.inputs.items():
            target = tensors[name][index]
            match bound:
                case LogMelInput():
                    self._log_mel(name, target, rows, samples)
                    if bound.receiver_padding == "repeat":
                        _repeat(target, rows)
                case IqInput():
                    target[rows] = _iq_rows(samples, bound)
                case ReceiverMaskInput():
                    target[rows] = bound.true_means == "present"
                case ReceiverIdsInput():
                    target[rows] = _identities(bound, item, rows, channels)
                case ReceiverFeaturesInput() | ReceiverPositionsInput():
                    target[rows] = self._columns(bound.columns, samples, item, channels)
            if target.dtype.kind == "f" and not _finite(target):
                raise NonFiniteIq(f"the features of input {name} overflow: samples lie far beyond full scale (±1)")

    def feed(self, tensors: Tensors) -> Tensors:
        """The tensors in the graph's own axis order."""
        return {name: self._to_graph_axes(name, tensor) for name, tensor in tensors.items()}

    def _to_graph_axes(self, name: str, tensor: NDArray[np.generic]) -> NDArray[np.generic]:
        axes = self._contract.inputs[name].axes
        canonical = [axis for axis in _CANONICAL if axis in axes or axis == "receiver"]
        ordered = [canonical.index(axis) for axis in axes]
        if "receiver" not in axes:
            return np.ascontiguousarray(tensor[:, 0].transpose([i - (i > 1) for i in ordered]))
        if ordered == list(range(len(ordered))):
            return tensor
        return np.ascontiguousarray(tensor.transpose(ordered))

    def _log_mel(
        self, name: str, target: NDArray[np.float32], rows: NDArray[np.intp], samples: NDArray[np.complex64]
    ) -> None:
        if len(rows) == len(target):  # All seats are taken, in the order of the rows: no copy in between.
            self._log_mels[name](samples, out=target)
        else:
            target[rows] = self._log_mels[name](samples)

    def _item_shape(self, name: str, n_samples: int) -> tuple[int, ...]:
        match self._contract.inputs[name]:
            case LogMelInput() as bound:
                return (bound.n_mels, self._log_mels[name].spec.frames_in(n_samples))
            case IqInput() as bound:
                return (_IQ_COMPONENTS, bound.length)
            case ReceiverFeaturesInput() | ReceiverPositionsInput() as bound:
                return (len(bound.columns),)
            case _:
                return ()

    def _fill_value(self, name: str) -> float | bool:
        bound = self._contract.inputs[name]
        return bound.true_means == "absent" if isinstance(bound, ReceiverMaskInput) else bound.fill

    def _columns(
        self, columns: Sequence[Column], samples: NDArray[np.complex64], item: Item, channels: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        values = self._geography(item, channels)
        if any(column.name not in values for column in columns):
            rate = item.capture.sample_rate or self._contract.sample_rate
            assert rate is not None, "admission settles the rate"
            measured = receiver_features(samples, rate)
            # The formula takes watts; in the level dBm the samples are in milliwatts already.
            psd_dbm_hz = measured.psd_dbm_hz - (_DB_PER_KILO if self._contract.level == "dbm" else 0.0)
            values |= {
                "snr_db": measured.snr_db,
                "psd_dbm_hz": psd_dbm_hz,
                "freq_offset_hz": measured.freq_offset_hz,
            }
        return np.stack([_column(column, values) for column in columns], axis=-1)

    def _geography(self, item: Item, channels: NDArray[np.intp]) -> dict[str, NDArray[np.float64]]:
        places = [item.capture.receivers[c].geolocation for c in channels]
        latitude = np.array([place.latitude for place in places])
        longitude = np.array([place.longitude for place in places])
        values = {
            "lat": latitude,
            "lon": longitude,
            "alt": np.array([place.altitude_m for place in places]),
            "center_frequency": np.full(len(places), item.capture.center_frequency_hz or 0.0),
        }
        if item.seats.origin is not None:
            values |= self._relative(latitude, longitude, item.seats.origin)
        return values

    def _relative(
        self, latitude: NDArray[np.float64], longitude: NDArray[np.float64], origin: tuple[float, float]
    ) -> dict[str, NDArray[np.float64]]:
        delta_lat = latitude - origin[0]
        delta_lon = (longitude - origin[1] + 180.0) % 360.0 - 180.0
        flat = self._contract.position.metres_per_degree
        if flat is not None:
            north, east = delta_lat * flat[0], delta_lon * flat[1]
        else:
            east, north = wgs84_to_enu(origin[0], origin[1], latitude, longitude)
        return {"delta_lat": delta_lat, "delta_lon": delta_lon, "north_m": north, "east_m": east}


def _in_order(samples: NDArray[np.complex64], channels: NDArray[np.intp]) -> NDArray[np.complex64]:
    """Samples (R, N) of the channels, in the order of the rows they sit in; not copied where that is their own."""
    return samples if np.array_equal(channels, np.arange(len(samples))) else samples[channels]


def _finite(values: NDArray[np.generic]) -> bool:
    # One pass finds the usual case: a sum is finite only if every term is.
    return bool(np.isfinite(values.sum()) or np.isfinite(values).all())


def row_digest(tensors: Mapping[str, NDArray[np.generic]], index: int, seats: Seats) -> bytes:
    """Digest of one item's row of every tensor and of what decoding reads; 32 bytes."""
    digest = blake3(repr(seats.origin).encode())
    for name in sorted(tensors):
        row = tensors[name][index]
        digest.update(f"{name}{row.dtype}{row.shape}".encode())
        digest.update(memoryview(row).cast("B") if row.size else b"")
    return digest.digest()


def _repeat(target: NDArray[np.generic], rows: NDArray[np.intp]) -> None:
    if len(rows) == len(target):
        return
    empty = np.ones(len(target), dtype=bool)
    empty[rows] = False
    absent = np.flatnonzero(empty)
    target[absent] = target[rows[np.arange(len(absent)) % len(rows)]]


def _iq_rows(samples: NDArray[np.complex64], bound: IqInput) -> NDArray[np.float32]:
    cut = crop_or_pad(samples, bound.length, bound.place, bound.pad)
    return np.stack([cut.real, cut.imag], axis=1) * np.float32(bound.scale)


def _identities(
    bound: ReceiverIdsInput, item: Item, rows: NDArray[np.intp], channels: NDArray[np.intp]
) -> NDArray[np.int64]:
    if bound.table == "row":
        return rows.astype(np.int64)
    known = [bound.table.get(item.capture.receivers[channel].id, bound.unknown) for channel in channels]
    assert None not in known, "admission refuses an unknown id"
    return np.array(known, dtype=np.int64)


def _column(column: Column, values: Mapping[str, NDArray[np.floating]]) -> NDArray[np.float64]:
    if column.name == "signal_present":
        value = (values["snr_db"] > column.threshold_db).astype(np.float64)
    else:
        value = np.asarray(values[column.name], dtype=np.float64)
    scaled = (value - column.offset) / column.scale
    return scaled if column.clip is None else np.clip(scaled, *column.clip)
