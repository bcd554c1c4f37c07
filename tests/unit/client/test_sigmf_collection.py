"""Collections: streams of free-running receivers brought to one instant and one rate."""

from pathlib import Path
from typing import Final

import numpy as np
import orjson
import pytest

from client import CaptureError, ReadOptions, Window, load
from client.sources import open_sources
from client.windows import Windows
from schemas.time import format_datetime_ns, parse_datetime_ns

EPOCH_NS: Final = parse_datetime_ns("2020-08-13T06:52:20Z")
TONES_HZ: Final = np.array([-4100.0, -1234.5, 17.0, 2718.28, 4600.0])
STREAMS: Final = {  # rate, start after the epoch in nanoseconds
    "north": (12001.084267887916, 269_435_159),
    "south": (12001.025603199327, 312_462_671),
    "west": (12000.5, 300_000_001),
}
PLACE: Final = {"type": "Point", "coordinates": [7.672, 45.044]}
SPEED_OF_LIGHT_KM: Final = 299_792.458
EARTH_RADIUS_KM: Final = 6371.0088


def on_air(times_ns: np.ndarray) -> np.ndarray:
    """What is on the air at instants after the epoch, nanoseconds."""
    seconds = times_ns[:, np.newaxis] * 1e-9
    return 0.15 * np.exp(2j * np.pi * TONES_HZ * seconds).sum(axis=1)


def write_stream(folder: Path, name: str, rate: float, start_ns: int, length: int = 8000, **changes: object) -> None:
    """Record what is on the air as ci16_le."""
    samples = on_air(start_ns + np.arange(length) * 1e9 / rate)
    pairs = np.stack([samples.real, samples.imag], axis=1) * 32768
    (folder / f"{name}.sigmf-data").write_bytes(np.rint(pairs).astype("<i2").tobytes())
    capture = {
        "core:sample_start": 0,
        "core:frequency": 77500.0,
        "core:datetime": format_datetime_ns(EPOCH_NS + start_ns),
        "core:geolocation": PLACE,
        **changes,
    }
    info = {"core:datatype": "ci16_le", "core:sample_rate": rate, "core:version": "1.2.0"}
    capture = {key: value for key, value in capture.items() if value is not None}
    (folder / f"{name}.sigmf-meta").write_bytes(orjson.dumps({"global": info, "captures": [capture]}))


def write_collection(folder: Path, **west: object) -> Path:
    """Three streams; what is given changes the capture of the last."""
    for name, (rate, start_ns) in STREAMS.items():
        write_stream(folder, name, rate, start_ns, **(west if name == "west" else {}))
    streams = {"core:version": "1.2.0", "core:streams": [{"name": name, "hash": "0"} for name in STREAMS]}
    path = folder / "all.sigmf-collection"
    path.write_bytes(orjson.dumps({"collection": streams}))
    return path


@pytest.mark.parametrize("rate", [None, 12000.0, 16000.0])
@pytest.mark.parametrize("start_s", [0.0, 0.1])
def test_streams_are_aligned_to_a_fraction_of_a_sample(tmp_path: Path, rate: float | None, start_s: float) -> None:
    """Every channel is what was on the air at the capture's own instants: an offset of 1 % of a sample would show."""
    window = Window(start_s=start_s, samples=4000)
    capture = load(write_collection(tmp_path), ReadOptions(resample=rate, window=window)).capture
    assert capture.capture_time is not None
    start_ns = parse_datetime_ns(capture.capture_time) - EPOCH_NS
    assert start_ns == pytest.approx(312_462_671 + start_s * 1e9, abs=1e9 / 12000)
    expected = on_air(start_ns + np.arange(4000) * 1e9 / capture.sample_rate)
    inside = slice(100, -100)
    assert np.abs(capture.array() - expected)[:, inside].max() < 2e-3


def test_a_collection_is_as_long_as_its_streams(tmp_path: Path) -> None:
    """Two seconds are two seconds: cut into windows none is missing at the end."""
    for name in ("one", "other"):
        write_stream(tmp_path, name, 4000.0, 0)
    streams = {"core:version": "1.2.0", "core:streams": [{"name": name, "hash": "0"} for name in ("one", "other")]}
    path = tmp_path / "all.sigmf-collection"
    path.write_bytes(orjson.dumps({"collection": streams}))
    (source,) = open_sources(path, ReadOptions())
    assert source.duration_s == 2.0
    cut = list(Windows(0.2).stretches(source.duration_s))
    assert len(cut) == 10
    last = source.read(cut[-1], None).array()
    expected = on_air((7200 + np.arange(800)) * 1e9 / 4000)
    assert np.abs(last - expected).max() < 2e-3


def test_capture_is_what_the_streams_say(tmp_path: Path) -> None:
    """A channel per stream, in the collection's order, under its name and at the lowest rate."""
    loaded = load(write_collection(tmp_path))
    assert [one.id for one in loaded.capture.receivers] == [*STREAMS]
    assert (loaded.capture.sample_rate, loaded.capture.center_frequency) == (12000.5, 77500.0)
    assert loaded.capture.capture_time == "2020-08-13T06:52:20.312462671Z"
    assert "3 streams share 0.6" in loaded.notes[0]
    loaded.capture.metadata()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"core:datetime": None}, "west: core:datetime is missing"),
        ({"core:geolocation": None}, "west: core:geolocation is missing"),
        ({"core:frequency": 1.0}, "different core:frequency.*west 1.0"),
        ({"core:datetime": "2021-01-01T00:00:00Z"}, "do not overlap.*west 2021"),
    ],
)
def test_streams_that_do_not_fit_are_named(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    """The message says which stream is wrong and how."""
    with pytest.raises(CaptureError, match=message):
        load(write_collection(tmp_path, **changes))


def test_missing_stream_is_named(tmp_path: Path) -> None:
    """A collection without one of its recordings is an error."""
    path = write_collection(tmp_path)
    (tmp_path / "south.sigmf-meta").unlink()
    with pytest.raises(CaptureError, match=r"south.sigmf-meta: no such file"):
        load(path)


def _distance_km(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    (lon_a, lat_a), (lon_b, lat_b) = np.radians(a[:2]), np.radians(b[:2])
    squared = np.sin((lat_b - lat_a) / 2) ** 2 + np.cos(lat_a) * np.cos(lat_b) * np.sin((lon_b - lon_a) / 2) ** 2
    return float(2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(squared)))


def _delay_s(one: np.ndarray, other: np.ndarray, rate: float) -> float:
    """By how much `one` hears later than `other`: peak of the cross-correlations of half-second pieces."""
    length, finer = int(rate / 2), 8
    total = np.zeros(2 * length * finer)
    for at in range(0, len(one) - length, length):
        product = np.fft.fft(one[at : at + length], 2 * length) * np.conj(
            np.fft.fft(other[at : at + length], 2 * length)
        )
        wide = np.zeros(2 * length * finer, complex)
        wide[:length], wide[-length:] = product[:length], product[length:]
        total += np.abs(np.fft.ifft(wide)) ** 2
    lag = int(np.argmax(np.fft.fftshift(total))) - len(total) // 2
    return lag / (rate * finer)


def test_real_receivers_hear_dcf77_when_geometry_says(recordings: Path) -> None:
    """Delays between three real receivers fit the transmitter's place to a quarter of a sample (25 km)."""
    options = ReadOptions(resample=24000.0, window=Window(duration_s=8.0))
    capture = load(recordings / "kiwi-dcf77-2020/dcf77.sigmf-collection", options).capture
    transmitter = (9.0112, 50.0152)
    places = [one.geolocation.coordinates for one in capture.receivers]
    samples = capture.array()
    for a, b in ((0, 1), (0, 2), (1, 2)):
        heard_km = _delay_s(samples[a], samples[b], capture.sample_rate) * SPEED_OF_LIGHT_KM
        assert heard_km == pytest.approx(
            _distance_km(places[a], transmitter) - _distance_km(places[b], transmitter), abs=6
        )
