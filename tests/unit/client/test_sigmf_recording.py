"""SigMF recordings on disk."""

from pathlib import Path

import numpy as np
import orjson
import pytest

from client import CaptureError, ReadOptions, Window, load

PLACE = {"type": "Point", "coordinates": [7.672, 45.044]}
SAMPLES = np.arange(1, 41, dtype="<i2").tobytes()  # Ten samples of two channels, I and Q counting up.


def write(folder: Path, captures: list[object], data: bytes = SAMPLES, name: str = "x", **fields: object) -> Path:
    """Write a recording of two channels of ci16_le at 1 kS/s; `__` in a field's name stands for a colon."""
    info = {
        "core:datatype": "ci16_le",
        "core:sample_rate": 1000.0,
        "core:num_channels": 2,
        "core:version": "1.2.0",
        **{key.replace("__", ":"): value for key, value in fields.items()},
    }
    info = {key: value for key, value in info.items() if value is not None}
    (folder / f"{name}.sigmf-meta").write_bytes(orjson.dumps({"global": info, "captures": captures, "annotations": []}))
    (folder / f"{name}.sigmf-data").write_bytes(data)
    return folder / f"{name}.sigmf-meta"


def test_either_file_names_the_recording(tmp_path: Path) -> None:
    """The data file will do, and its bytes are passed on as they are."""
    meta = write(tmp_path, [{"core:sample_start": 0, "core:frequency": 1e6}])
    for path in (meta, meta.with_suffix(".sigmf-data")):
        capture = load(path).capture
        assert (capture.body(), capture.num_channels, capture.center_frequency) == (SAMPLES, 2, 1e6)


def test_what_describes_the_file_is_left_behind(tmp_path: Path) -> None:
    """Trailing and header bytes are dropped with the fields that speak of them; the rest travels along."""
    meta = write(
        tmp_path,
        [{"core:sample_start": 0, "core:header_bytes": 3}],
        data=b"HDR" + SAMPLES + b"TRAILER",
        core__trailing_bytes=7,
        core__sha512="00",
        core__offset=0,
        core__collection="y",
        core__hw="RTL-SDR",
    )
    capture = load(meta).capture
    assert capture.body() == SAMPLES
    assert set(capture.metadata()["global"]) == {
        f"core:{field}" for field in ("version", "datatype", "sample_rate", "num_channels", "hw")
    }


def test_dataset_of_another_name(tmp_path: Path) -> None:
    """core:dataset names the file that holds the samples."""
    meta = write(tmp_path, [], core__dataset="samples.raw")
    meta.with_suffix(".sigmf-data").rename(tmp_path / "samples.raw")
    assert load(meta).capture.body() == SAMPLES


def test_one_of_several_captures(tmp_path: Path) -> None:
    """A retuned recording gives one capture, and says that there are others; indices count from core:offset."""
    captures = [
        {"core:sample_start": 100, "core:frequency": 1e6},
        {"core:sample_start": 104, "core:frequency": 2e6, "core:datetime": "2026-01-01T00:00:00.000000001Z"},
    ]
    loaded = load(write(tmp_path, captures, core__offset=100), ReadOptions(capture=1))
    assert loaded.capture.body() == SAMPLES[4 * 8 :]
    assert loaded.capture.center_frequency == 2e6
    assert "--capture" in loaded.notes[0]


def test_window_moves_the_time(tmp_path: Path) -> None:
    """A cut starts later by whole samples, to the nanosecond."""
    meta = write(tmp_path, [{"core:sample_start": 0, "core:datetime": "2026-01-01T00:00:00.123456789Z"}])
    capture = load(meta, ReadOptions(window=Window(start_s=0.003, samples=2))).capture
    assert capture.capture_time == "2026-01-01T00:00:00.126456789Z"
    assert capture.body() == SAMPLES[24:40]


def test_receivers_come_from_the_file(tmp_path: Path) -> None:
    """One channel takes the recording's geolocation; heimdall:receivers are taken over."""
    single = write(tmp_path, [{"core:geolocation": PLACE}], name="one", core__num_channels=1)
    assert load(single).capture.receivers[0].id == "one"
    stated = [{"id": name, "geolocation": PLACE} for name in "ab"]
    several = write(
        tmp_path, [], heimdall__receivers=stated, core__extensions=[{"name": "heimdall", "version": "1.0.0"}]
    )
    capture = load(several).capture
    assert [one.id for one in capture.receivers] == ["a", "b"]
    assert len(capture.metadata()["global"]["core:extensions"]) == 1


def test_real_samples_are_passed_on(tmp_path: Path) -> None:
    """Refusing real samples is the worker's word; the client measures them rightly."""
    meta = write(tmp_path, [], core__datatype="ri16_le")
    assert load(meta).capture.length == 20


@pytest.mark.parametrize(
    ("captures", "fields", "message"),
    [
        ([], {"core__sample_rate": None}, "give --sample-rate"),
        ([], {"core__datatype": None}, "global/core:datatype: Field required"),
        ([], {"core__datatype": "float"}, "unknown datatype"),
        ([], {"core__metadata_only": True}, "without its samples"),
        ([], {"core__dataset": "gone.raw"}, "gone.raw: no such file"),
        ([{"core:datetime": "noon"}], {}, "captures/0/core:datetime"),
        ([{"core:sample_start": 99}], {}, "holds 10"),
        ([{"core:geolocation": {"type": "Point", "coordinates": [0, 99]}}], {}, "geolocation"),
    ],
)
def test_bad_metadata_names_the_field(
    tmp_path: Path, captures: list[object], fields: dict[str, object], message: str
) -> None:
    """The message says which file, which field, and what would be right."""
    with pytest.raises(CaptureError, match=message):
        load(write(tmp_path, captures, **fields))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ReadOptions(sample_rate=5.0), "leave --sample-rate 5 out"),
        (ReadOptions(capture=3), "captures 0 to 0"),
        (ReadOptions(window=Window(start_s=1.0)), "--start 1 s lies outside"),
        (ReadOptions(window=Window(samples=11)), "11 samples asked for, 10"),
        (ReadOptions(window=Window(duration_s=0.0)), "0 samples asked for"),
    ],
)
def test_options_that_do_not_fit(tmp_path: Path, options: ReadOptions, message: str) -> None:
    """Options are checked against what the file says."""
    with pytest.raises(CaptureError, match=message):
        load(write(tmp_path, []), options)


def test_meta_without_data_and_data_without_meta(tmp_path: Path) -> None:
    """Half a recording is answered with the name of the other half."""
    meta = write(tmp_path, [])
    data = meta.with_suffix(".sigmf-data").rename(tmp_path / "lonely.sigmf-data")
    with pytest.raises(CaptureError, match=r"x.sigmf-data: no such file"):
        load(meta)
    with pytest.raises(CaptureError, match=r"lonely.sigmf-meta: no such file"):
        load(data)
