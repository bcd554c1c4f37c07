"""Watching folders: a recording is taken once, when it is complete."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from client import ReadOptions
from client.watching import watch


@asynccontextmanager
async def watched(folder: Path) -> AsyncIterator[list[str]]:
    """Names of what was found so far, under quick settings."""
    found: list[str] = []

    async def collect() -> None:
        async with aclosing(watch([folder], ReadOptions(sample_rate=1e3), settled_s=0.3, poll_s=0.02)) as sources:
            async for source in sources:
                found.append(source.name)  # noqa: PERF401 - it never ends

    collecting = asyncio.create_task(collect())
    yield found
    collecting.cancel()
    await asyncio.gather(collecting, return_exceptions=True)


async def test_a_file_that_grows_is_waited_for(tmp_path: Path) -> None:
    """It is taken when it has not changed for a while, and once."""
    async with watched(tmp_path) as found:
        for length in range(1, 8):
            (tmp_path / "iq.cu8").write_bytes(bytes(length))
            await asyncio.sleep(0.1)
            assert not found
        await asyncio.sleep(1)
    assert found == ["iq"]


async def test_metadata_waits_for_its_dataset(tmp_path: Path) -> None:
    """A SigMF recording is complete with both of its files."""
    info = {"core:datatype": "cu8", "core:sample_rate": 1e3, "core:version": "1.2.0"}
    async with watched(tmp_path) as found:
        (tmp_path / "iq.sigmf-meta").write_text(json.dumps({"global": info, "captures": [], "annotations": []}))
        await asyncio.sleep(0.6)
        assert not found
        (tmp_path / "iq.sigmf-data").write_bytes(bytes(10))
        await asyncio.sleep(1)
    assert found == ["iq"]


async def test_a_file_recorded_anew_is_taken_anew(tmp_path: Path) -> None:
    """Another content under the same name is another recording."""
    async with watched(tmp_path) as found:
        for length in (10, 20):
            (tmp_path / "iq.cu8").write_bytes(bytes(length))
            await asyncio.sleep(1)
    assert found == ["iq", "iq"]


async def test_a_broken_collection_is_left_out_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Which recordings are its streams it cannot say; when nothing more comes of it, they are recordings."""
    monkeypatch.setattr("client.watching._PATIENCE_S", 0.6)
    info = {"core:datatype": "cu8", "core:sample_rate": 1e3, "core:version": "1.2.0"}
    (tmp_path / "all.sigmf-collection").write_bytes(b"half a fi")
    (tmp_path / "iq.sigmf-meta").write_text(json.dumps({"global": info, "captures": [], "annotations": []}))
    (tmp_path / "iq.sigmf-data").write_bytes(bytes(10))
    async with watched(tmp_path) as found:
        await asyncio.sleep(0.4)
        assert not found
        await asyncio.sleep(1.2)
    assert found == ["iq"]
    assert "left out" in caplog.text
    assert "all.sigmf-collection" in caplog.text


@pytest.mark.parametrize("name", ["iq.npy", "iq.sigmf-collection", "iq.sigmf-meta"])
async def test_a_broken_file_keeps_nobody_else(tmp_path: Path, name: str) -> None:
    """What cannot be read is passed over; the rest of the folder goes on."""
    (tmp_path / name).write_bytes(b"half a fi")
    (tmp_path / "fine.cu8").write_bytes(bytes(8))
    async with watched(tmp_path) as found:
        await asyncio.sleep(1)
    assert found == ["fine"]
