"""What people type."""

from pathlib import Path

import orjson
import pytest

from client.errors import CaptureError
from client.quantities import parse_quantity, parse_rate, parse_receiver, read_receivers


@pytest.mark.parametrize(
    ("text", "value"),
    [("2.4M", 2.4e6), ("433.92M", 433.92e6), ("50k", 50e3), ("1e6", 1e6), ("1.2GHz", 1.2e9), ("12001.08", 12001.08)],
)
def test_prefixes(text: str, value: float) -> None:
    """Prefixes and exponents mean what radio people mean by them."""
    assert parse_quantity(text, "--rate") == value


@pytest.mark.parametrize("text", ["", "fast", "2,4M", "2.4MM", "nan", "1e", "0x10"])
def test_no_number_is_refused_with_an_example(text: str) -> None:
    """The message names the option and shows a right value."""
    with pytest.raises(CaptureError, match=r"--rate: .*2\.4M"):
        parse_quantity(text, "--rate")


@pytest.mark.parametrize("text", ["0", "-1k"])
def test_rate_is_above_zero(text: str) -> None:
    """A rate of zero or less is a usage error."""
    with pytest.raises(CaptureError, match="--resample: a sample rate is above zero"):
        parse_rate(text, "--resample")


def test_receiver_is_latitude_first_as_people_say_it() -> None:
    """ID=LAT,LON,ALT becomes a GeoJSON position, longitude first."""
    assert parse_receiver("Torino=45.044,7.672,250").geolocation.coordinates == (7.672, 45.044, 250.0)
    assert parse_receiver("Torino=45.044,7.672").geolocation.coordinates == (7.672, 45.044)


@pytest.mark.parametrize("text", ["Torino", "=45,7", "Torino=45", "Torino=45,7,1,2", "Torino=north,7"])
def test_bad_receiver_is_answered_with_the_form(text: str) -> None:
    """Whatever is wrong, the message shows the right form."""
    with pytest.raises(CaptureError, match="ID=LAT,LON"):
        parse_receiver(text)


def test_receiver_beyond_the_pole_names_itself() -> None:
    """Exchanged or mistyped degrees are found where they leave the Earth."""
    with pytest.raises(CaptureError, match="receiver 'Torino' at latitude 107"):
        parse_receiver("Torino=107.672,45.044")


def features(path: Path, *entries: object) -> Path:
    """Write a FeatureCollection."""
    path.write_bytes(orjson.dumps({"type": "FeatureCollection", "features": entries}))
    return path


def feature(coordinates: list[float], **members: object) -> dict[str, object]:
    """A GeoJSON Feature of a Point."""
    return {"type": "Feature", "geometry": {"type": "Point", "coordinates": coordinates}, "properties": {}, **members}


def test_receivers_of_geojson(tmp_path: Path) -> None:
    """A receiver's id is the feature's id, or its property id or name."""
    path = features(
        tmp_path / "rx.geojson",
        feature([7.6, 45.0], id="a"),
        feature([7.7, 45.1, 300], properties={"name": "b", "time_error_ns": 20}),
        feature([7.8, 45.2], properties={"id": 3, "name": "c"}),
    )
    receivers = read_receivers(path)
    assert [receiver.id for receiver in receivers] == ["a", "b", "3"]
    assert receivers[1].time_error_ns == 20
    assert receivers[1].geolocation.altitude_m == 300


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "at least one Point"),
        ([feature([7.6, 45.0])], r"features\[0\]: give it an `id`"),
        ([feature([7.6, 145.0], id="a")], r"features\[0\].*longitude comes first"),
        (["a"], "no GeoJSON Feature"),
    ],
)
def test_bad_geojson_names_the_feature(tmp_path: Path, entries: list[object], message: str) -> None:
    """The message says which file, which feature, and what is wrong."""
    with pytest.raises(CaptureError, match=message):
        read_receivers(features(tmp_path / "rx.geojson", *entries))


def test_unreadable_geojson(tmp_path: Path) -> None:
    """A missing file and a file that is no JSON are told apart."""
    with pytest.raises(CaptureError, match="No such file"):
        read_receivers(tmp_path / "none.geojson")
    (tmp_path / "bad.geojson").write_text("{")
    with pytest.raises(CaptureError, match="no JSON"):
        read_receivers(tmp_path / "bad.geojson")
