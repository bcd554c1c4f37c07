"""The short form of the fault suite, and that it can fail."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.chaos.injection import ACK_FIRST
from bench.chaos.run import run_one
from bench.chaos.scenarios import QUICK
from bench.chaos.site import site
from bench.chaos.world import Scale

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(600)
def test_the_short_form(tmp_path: Path) -> None:
    """Everything that the short form breaks costs no job, and the command says so in its last line."""
    argv = [sys.executable, "-m", "bench.chaos", "--quick", "--out", str(tmp_path)]
    done = subprocess.run(argv, cwd=ROOT, check=False, capture_output=True, text=True, timeout=590)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert [row["number"] for row in report["scenarios"]] == list(QUICK)
    confirmed = sum(row["confirmed"] for row in report["scenarios"])
    last = done.stdout.strip().splitlines()[-1]
    assert last == f"chaos: scenarios={len(QUICK)} confirmed={confirmed} lost=0 unexpected=0 differing=0 left=0"
    assert confirmed > 1000


@pytest.mark.timeout(300)
def test_a_broken_build_is_caught() -> None:
    """A worker that acknowledges before it stores the outcome loses jobs when it is killed; the oracle says so."""
    with site() as shared:
        row = run_one(shared, 1, Scale(jobs=200, rate=200.0, quick=True), broken=ACK_FIRST)
    assert row.failure == ""
    assert row.lost > 0
    assert not row.clean
