"""From captures to the input tensors of a graph, as the contract says. Pure.

Tensors are kept in canonical axis order (batch, receiver, then the feature's own), so that an item is one contiguous
row; `FeaturePlan.feed` transposes where a graph wants another order.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

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
from worker.serving.items import Alike, Item
from worker.serving.seating import Seats

Tensors = dict[str, NDArray[np.generic]]

_CANONICAL: Final = ("batch", "receiver", "mel", "frame", "iq", "sample", "column")
_IQ_COMPONENTS: Final = 2
_DB_PER_KILO: Final = 30.0


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

    def fill(self, tensors: Tensors, first: int, *items: Item) -> None:
        """Compute the features of items of one layout into the rows from `first` on.

        Raises:
            NonFiniteIq: the features overflow: samples of one of them are far beyond full scale.
            ValueError: a capture was read in another level than the contract's, or the items differ in layout.
        """
        alike = Alike.of(items, self._contract.level)
        for name, bound in self._contract.inputs.items():
            target = tensors[name][first : first + len(items)]
            self._write(name, target, alike)
            if isinstance(bound, LogMelInput) and bound.receiver_padding == "repeat":
                _repeat(target, alike.rows)
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

    def _write(self, name: str, target: NDArray[Any], alike: Alike) -> None:
        """One input's features into the rows (B, seat, …) of the items."""
        rows, samples = alike.rows, alike.samples
        match self._contract.inputs[name]:
            case LogMelInput() if len(rows) == target.shape[1]:  # In the order of the rows: no copy in between.
                self._log_mels[name](samples, out=target)
            case LogMelInput():
                target[:, rows] = self._log_mels[name](samples)
            case IqInput() as bound:
                target[:, rows] = _iq_rows(samples, bound)
            case ReceiverMaskInput() as bound:
                target[:, rows] = bound.true_means == "present"
            case ReceiverIdsInput() as bound:
                target[:, rows] = [_identities(bound, item, rows, alike.channels) for item in alike.items]
            case ReceiverFeaturesInput() | ReceiverPositionsInput() as bound:
                for row, item, iq in zip(target, alike.items, samples, strict=True):
                    row[rows] = self._columns(bound.columns, iq, item, alike.channels)

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
    """Fill the rows (B, row, …) of absent receivers with those of the present ones, in turns."""
    if len(rows) == target.shape[1]:
        return
    empty = np.ones(target.shape[1], dtype=bool)
    empty[rows] = False
    absent = np.flatnonzero(empty)
    target[:, absent] = target[:, rows[np.arange(len(absent)) % len(rows)]]


def _iq_rows(samples: NDArray[np.complex64], bound: IqInput) -> NDArray[np.float32]:
    cut = crop_or_pad(samples, bound.length, bound.place, bound.pad)
    return np.stack([cut.real, cut.imag], axis=-2) * np.float32(bound.scale)


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
