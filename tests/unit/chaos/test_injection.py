"""What the fault suite recognises at the borders of a worker."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from redis._parsers.encoders import Encoder  # What packs commands for the connection.
from redis.connection import PythonRespSerializer

from bench.chaos.injection import ARMED, Point, arm, job_items, store_answers
from bench.chaos.workers import INJECTED, ROOT

KEY = "heimdall:result:a"


def packed(*commands: tuple[object, ...]) -> list[bytes]:
    """Commands as they are sent."""
    serializer = PythonRespSerializer(6000, Encoder("utf-8", "strict", False).encode)
    return [piece for command in commands for piece in serializer.pack(*command)]


@pytest.mark.parametrize(
    ("commands", "answers"),
    [
        ([("SET", KEY, b"{}", "EX", 60, "NX", "GET")] * 3, 3),
        ([("EVALSHA", "0" * 40, 2, KEY, KEY, 60, b"{}", b"{}")], 1),
        ([("MGET", KEY, KEY)], 0),
        ([("SET", "heimdall:probe:x", b"1", "NX")], 0),
        ([("EVALSHA", "0" * 40, 1, "heimdall:suspect:a")], 0),
    ],
    ids=["one by one", "script", "look-up", "probe", "another script"],
)
def test_commands_that_store_outcomes(commands: list[tuple[object, ...]], answers: int) -> None:
    """Only what stores an outcome is waited for, however it is sent."""
    assert store_answers(packed(*commands)) == answers


def test_items_that_are_jobs() -> None:
    """Rows with exactly one receiver are jobs of the load; golden vectors and warm-up are not."""
    mask = np.array([[1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0]], bool)
    assert job_items({"mask": mask}) == 2


@pytest.mark.parametrize(("named", "code"), [(Point.STORED, -9), (Point.INFERRED, 0)])
def test_death_at_the_point_that_is_named(tmp_path: Path, named: Point, code: int) -> None:
    """A process dies at the point the file names and removes the file; at any other point it goes on."""
    armed = tmp_path / "armed"
    arm(armed, named)
    text = f"from bench.chaos.injection import Death, Point; Death({str(armed)!r}).at(Point.STORED)"
    assert subprocess.run([sys.executable, "-c", text], cwd=ROOT, check=False).returncode == code
    assert armed.exists() == (code == 0)


def test_only_a_worker_is_changed(tmp_path: Path) -> None:
    """A process that is no worker starts as ever, with the suite's folder on its path."""
    env = {"PYTHONPATH": f"{INJECTED}:{ROOT}", ARMED: str(tmp_path / "armed")}
    text = "import asyncio; print(asyncio.StreamWriter.write.__module__)"
    done = subprocess.run([sys.executable, "-c", text], env=env, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "asyncio.streams"
