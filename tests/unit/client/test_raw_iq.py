"""Raw IQ, numpy arrays and standard input."""

import io
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from client import CaptureError, ReadOptions, Window, load, receiver
from client.reading import DEFAULT_BODY_BYTES

RATE = ReadOptions(sample_rate=1e6)


@pytest.mark.parametrize(
    ("suffix", "datatype"),
    [
        ("cu8", "cu8"),
        ("cs8", "ci8"),
        ("complex16s", "ci8"),
        ("cs16", "ci16_le"),
        ("cf32", "cf32_le"),
        ("complex", "cf32_le"),
        ("CU8", "cu8"),
    ],
)
def test_datatype_is_guessed_and_said(tmp_path: Path, suffix: str, datatype: str) -> None:
    """A suffix in common use decides, and the user is told."""
    path = tmp_path / f"iq.{suffix}"
    path.write_bytes(b"\x01" * 64)
    loaded = load(path, RATE)
    assert loaded.capture.datatype == datatype
    assert f"taken for {datatype}" in loaded.notes[0]


def test_said_datatype_is_not_remarked_upon(tmp_path: Path) -> None:
    """--datatype wins over the suffix, silently."""
    (tmp_path / "iq.cu8").write_bytes(b"\x01" * 64)
    loaded = load(tmp_path / "iq.cu8", ReadOptions(sample_rate=1e6, datatype="ci16_le"))
    assert (loaded.capture.datatype, loaded.notes) == ("ci16_le", ())


def test_interleaved_channels_follow_the_receivers(tmp_path: Path) -> None:
    """One channel per receiver, unless the number is given."""
    (tmp_path / "iq.cu8").write_bytes(bytes(range(12)))
    pair = tuple(receiver(name, latitude=45, longitude=7) for name in "ab")
    assert load(tmp_path / "iq.cu8", ReadOptions(sample_rate=1e6, receivers=pair)).capture.num_channels == 2
    assert load(tmp_path / "iq.cu8", ReadOptions(sample_rate=1e6, channels=3)).capture.length == 2


def test_last_incomplete_sample_is_left_out(tmp_path: Path) -> None:
    """A recorder that was stopped in mid-sample leaves a file that can be used."""
    (tmp_path / "iq.cf32").write_bytes(b"\0" * 20)
    assert len(load(tmp_path / "iq.cf32", RATE).capture.body()) == 16


def test_long_recordings_are_cut_and_that_is_said(tmp_path: Path) -> None:
    """Without a word about length, a job takes what fits, and says how to take more."""
    (tmp_path / "iq.cu8").write_bytes(b"\x80" * (DEFAULT_BODY_BYTES + 2))
    loaded = load(tmp_path / "iq.cu8", RATE)
    assert len(loaded.capture.body()) == DEFAULT_BODY_BYTES
    assert "choose with --start, --duration or --samples" in loaded.notes[1]
    whole = load(tmp_path / "iq.cu8", ReadOptions(sample_rate=1e6, window=Window(samples=DEFAULT_BODY_BYTES // 2 + 1)))
    assert len(whole.capture.body()) == DEFAULT_BODY_BYTES + 2


def test_window_and_time(tmp_path: Path) -> None:
    """A cut takes the right bytes and moves the given time."""
    (tmp_path / "iq.cu8").write_bytes(bytes(range(100)))
    options = ReadOptions(sample_rate=1e6, capture_time="2026-01-01T00:00:00Z", window=Window(start_s=5e-6, samples=3))
    capture = load(tmp_path / "iq.cu8", options).capture
    assert capture.body() == bytes(range(10, 16))
    assert capture.capture_time == "2026-01-01T00:00:00.000005000Z"


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """`-` reads raw IQ from a pipe; its datatype must be said."""
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(bytes(range(8)))))
    options = ReadOptions(sample_rate=1e6, datatype="cu8", window=Window(start_s=1e-6))
    assert load("-", options).capture.body() == bytes(range(2, 8))
    with pytest.raises(CaptureError, match=r"standard input: .*--datatype"):
        load("-", RATE)


@pytest.mark.parametrize("part", [{"start_s": math.inf}, {"duration_s": math.inf}, {"duration_s": math.nan}])
def test_a_part_without_an_end_is_refused(tmp_path: Path, part: dict[str, float]) -> None:
    """Where it begins and how long it is are numbers."""
    (tmp_path / "iq.cu8").write_bytes(bytes(8))
    with pytest.raises(CaptureError, match=r"iq\.cu8: --start and --duration are numbers of seconds"):
        load(tmp_path / "iq.cu8", ReadOptions(sample_rate=1e6, window=Window(**part)))


@pytest.mark.parametrize(("shape", "channels"), [((50,), 1), ((2, 50), 2)])
def test_numpy_arrays(tmp_path: Path, shape: tuple[int, ...], channels: int) -> None:
    """(N,) and (R, N) complex arrays of either width."""
    np.save(tmp_path / "iq.npy", np.ones(shape, dtype=np.complex128))
    capture = load(tmp_path / "iq.npy", RATE).capture
    assert (capture.num_channels, capture.length, capture.array().dtype) == (channels, 50, np.complex64)


@pytest.mark.parametrize("array", [np.ones(5), np.ones((1, 2, 3), np.complex64), np.array([{}], dtype=object)])
def test_other_arrays_are_refused(tmp_path: Path, array: np.ndarray) -> None:
    """Real, cubic and pickled arrays are no IQ."""
    np.save(tmp_path / "iq.npy", array, allow_pickle=True)
    with pytest.raises(CaptureError, match=r"iq.npy"):
        load(tmp_path / "iq.npy", RATE)


def test_resampling_while_reading(tmp_path: Path) -> None:
    """--resample brings any file to the rate asked for, and says so."""
    np.save(tmp_path / "iq.npy", np.ones(1000, dtype=np.complex64))
    loaded = load(tmp_path / "iq.npy", ReadOptions(sample_rate=1e6, resample=5e5))
    assert (loaded.capture.sample_rate, loaded.capture.length) == (5e5, 500)
    assert "resampled from 1000000 to 500000" in loaded.notes[-1]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("iq.cu8", ReadOptions(), "give --sample-rate, such as --sample-rate 2.4M"),
        ("iq.dat", RATE, "give --datatype"),
        ("none.cu8", RATE, "no such file"),
        (".", RATE, "a folder"),
        ("iq.sigmf", RATE, "unpack it first"),
        ("iq.cu8", ReadOptions(sample_rate=1e6, capture_time="noon"), "--time: 'noon'"),
        ("iq.cu8", ReadOptions(sample_rate=1e6, datatype="cf32"), "say the byte order|no whole|unknown|--start|lies"),
    ],
)
def test_messages_say_what_would_be_right(tmp_path: Path, name: str, options: ReadOptions, message: str) -> None:
    """Each wrong input has a message that a user can act on."""
    for file in ("iq.cu8", "iq.dat", "iq.sigmf"):
        (tmp_path / file).write_bytes(b"\x80" * 6)
    with pytest.raises(CaptureError, match=message):
        load(tmp_path / name, options)


@pytest.mark.parametrize(
    ("name", "datatype", "samples"),
    [
        ("adsb-1090/modes1.cu8", "cu8", 356_868),
        ("ism-433/ask.complex", "cf32_le", 13_710),
        ("ism-433/fsk.complex", "cf32_le", 67_912),
        ("ism-433/esaver.complex16s", "ci8", 299_046),
        ("sigmf-logo-real/sigmf_logo.sigmf-meta", "ri16_le", 262_144),
    ],
)
def test_real_recordings(recordings: Path, name: str, datatype: str, samples: int) -> None:
    """Real files of all kinds are read as what they are; what is complex decodes to finite samples."""
    capture = load(recordings / name, None if "sigmf" in name else RATE).capture
    assert (capture.datatype, capture.length) == (datatype, samples)
    capture.metadata()
    if not datatype.startswith("r"):
        assert np.isfinite(capture.array()).all()
