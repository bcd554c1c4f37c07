"""Recordings read stretch by stretch: the same samples as read at once, at any rate."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client import CaptureError, ReadOptions
from client.sources import Source, files_in, identity, open_sources, slug
from client.windows import Stretch, Windows

RATE = 8000.0


def tone(hz: float, length: int, rate: float = RATE, shift_s: float = 0.0) -> np.ndarray[Any, Any]:
    """A tone at half of full scale."""
    return (0.5 * np.exp(2j * np.pi * hz * (np.arange(length) / rate + shift_s))).astype(np.complex64)


def write_recording(folder: Path, name: str, samples: np.ndarray[Any, Any], **capture: Any) -> Path:
    """A SigMF recording of one channel."""
    info = {"core:datatype": "cf32_le", "core:sample_rate": RATE, "core:version": "1.2.0"}
    captures = capture.pop("captures", [{"core:sample_start": 0} | capture])
    meta = folder / f"{name}.sigmf-meta"
    meta.write_text(json.dumps({"global": info, "captures": captures, "annotations": []}))
    meta.with_suffix(".sigmf-data").write_bytes(samples.tobytes())
    return meta


def only(path: Path, **options: Any) -> Source:
    """The one source of a file."""
    (source,) = open_sources(path, ReadOptions(**options))
    return source


@pytest.fixture(params=["sigmf", "npy", "raw"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    """Two seconds of a tone, in each format."""
    samples = tone(440, 16_000)
    if request.param == "sigmf":
        return only(write_recording(tmp_path, "tone", samples))
    if request.param == "npy":
        np.save(tmp_path / "tone.npy", samples)
        return only(tmp_path / "tone.npy", sample_rate=RATE)
    (tmp_path / "tone.cf32").write_bytes(samples.tobytes())
    return only(tmp_path / "tone.cf32", sample_rate=RATE)


def test_windows_put_together_are_the_recording(source: Source) -> None:
    """At its own rate no sample is lost, doubled or changed."""
    assert (source.name, source.sample_rate, source.duration_s) == ("tone", RATE, 2.0)
    parts = [source.read(one, None).array() for one in Windows(0.25).stretches(source.duration_s)]
    assert np.array_equal(np.concatenate(parts, axis=1)[0], tone(440, 16_000))


@pytest.mark.parametrize("rate", [5000.0, 12_345.6, 48_000.0])
def test_a_resampled_window_has_no_edges(source: Source, rate: float) -> None:
    """A window from the middle is the tone at the new rate, to its first and last sample."""
    part = source.read(Stretch(3, 750_000_000, 0.25), rate)
    assert part.sample_rate == rate
    expected = tone(440, round(0.25 * rate), rate, shift_s=0.75)
    assert np.abs(part.array()[0] - expected).max() < 2e-3


@pytest.mark.parametrize("rate", [5000.0, 12_345.6, 48_000.0])
def test_the_first_window_ends_without_an_edge(source: Source, rate: float) -> None:
    """Nothing lies before a recording, but its second window lies behind the first."""
    part = source.read(Stretch(0, 0, 0.25), rate).array()[0]
    assert np.abs(part[-100:] - tone(440, round(0.25 * rate), rate)[-100:]).max() < 2e-3


def test_a_stretch_without_an_end_is_the_rest(source: Source) -> None:
    """One job of a whole file."""
    assert source.read(Stretch(0, 0, None), None).length == 16_000
    assert source.read(Stretch(0, 0, None), 16_000.0).length == 32_000


def test_named_samples_are_named_at_every_rate(tmp_path: Path) -> None:
    """A batch job stays one where the model takes another rate; a window of its own names none."""
    meta = write_recording(tmp_path, "batch", tone(440, 8000))
    document = json.loads(meta.read_text())
    document["global"]["heimdall:samples"] = [
        {"sample_start": 0, "sample_count": 4000},
        {"sample_start": 4000, "sample_count": 4000},
    ]
    meta.write_text(json.dumps(document))
    batch, whole = only(meta), Stretch(0, 0, None)
    for rate in (RATE, RATE / 2):
        windows = batch.read(whole, rate).windows
        half = round(4000 * rate / RATE)
        assert [(one.sample_start, one.sample_count) for one in windows] == [(0, half), (half, half)]
    assert not batch.read(Stretch(0, 0, 0.1), RATE).windows


def test_each_capture_of_a_retuned_recording_is_a_source(tmp_path: Path) -> None:
    """Windows never cross a gap or a retune; names tell them apart."""
    captures = [
        {"core:sample_start": 0, "core:frequency": 1e6, "core:datetime": "2026-01-01T00:00:00Z"},
        {"core:sample_start": 6000, "core:frequency": 2e6, "core:datetime": "2026-01-01T01:00:00Z"},
    ]
    meta = write_recording(tmp_path, "hops", tone(100, 16_000), captures=captures)
    first, second = open_sources(meta, ReadOptions())
    assert [one.name for one in (first, second)] == ["hops.0", "hops.1"]
    assert [one.duration_s for one in (first, second)] == [0.75, 1.25]
    part = second.read(Stretch(1, 500_000_000, 0.25), None)
    assert (part.center_frequency, part.capture_time) == (2e6, "2026-01-01T01:00:00.500000000Z")


def test_a_folder_lists_a_collection_once(tmp_path: Path) -> None:
    """Streams of a collection are no recordings of their own; other files are left alone."""
    for name in ("a", "b", "alone"):
        write_recording(tmp_path, name, tone(1, 10))
    streams = [{"name": name, "hash": ""} for name in ("a", "b")]
    (tmp_path / "pair.sigmf-collection").write_text(json.dumps({"collection": {"core:streams": streams}}))
    (tmp_path / "notes.txt").write_text("no IQ")
    (tmp_path / "folder.cu8").mkdir()
    assert [file.name for file in files_in(tmp_path)] == ["alone.sigmf-meta", "pair.sigmf-collection"]


def test_another_content_is_another_identity(tmp_path: Path) -> None:
    """Size, time of change and path count, so that a file recorded anew is published anew."""
    file = tmp_path / "iq.cu8"
    file.write_bytes(bytes(8))
    before = identity([file])
    assert identity([file]) == before
    os.utime(file, ns=(0, 0))
    assert identity([file]) != before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.cu8", "no such file"),
        ("empty.cu8", "no sample"),
        ("real.npy", "it must be complex"),
        ("packed.sigmf", "unpack it first"),
        ("-", "standard input"),
    ],
)
def test_what_cannot_be_opened(tmp_path: Path, name: str, message: str) -> None:
    """The message says what is wrong before anything is published."""
    (tmp_path / "empty.cu8").write_bytes(b"")
    (tmp_path / "packed.sigmf").write_bytes(b"")
    np.save(tmp_path / "real.npy", np.ones(4))
    with pytest.raises(CaptureError, match=message):
        open_sources(Path(name) if name == "-" else tmp_path / name, ReadOptions(sample_rate=RATE))


@pytest.mark.parametrize(("name", "made"), [("A b/ö.1", "A-b-.1"), ("x" * 99, "x" * 60), ("…", "recording")])
def test_names_fit_job_ids(name: str, made: str) -> None:
    """Whatever a file is called, its session and job ids are valid."""
    assert slug(name) == made
