"""Jobs of the workloads, and when they are due."""

import hashlib

import numpy as np
import pytest

from bench.source import schedule
from bench.workloads import WORKLOADS
from worker.reading import read_sigmf
from worker.recording import decode_capture


@pytest.mark.parametrize("name", WORKLOADS)
def test_jobs_are_what_the_workload_says(name: str) -> None:
    """The worker reads the metadata, and finds so many receivers and samples, none of them clipped."""
    workload = WORKLOADS[name]
    body = workload.marked(workload.make_bodies(1)[0], 7)
    assert len(body) == workload.body_bytes
    capture = decode_capture(read_sigmf(workload.sigmf(), body), 0)
    assert capture.samples.shape == (workload.plan.receivers, workload.plan.n_samples)
    assert len(capture.receivers) == workload.plan.receivers
    assert not capture.clipped


@pytest.mark.parametrize("name", ["tiny", "network"])
def test_no_two_jobs_share_a_body(name: str) -> None:
    """A mark makes bodies differ, also those made of the same recording, over a million jobs."""
    workload = WORKLOADS[name]
    body = workload.make_bodies(1)[0]
    numbers = [*range(100), 8_191, 8_192, 8_193, 999_999]
    digests = {hashlib.sha256(workload.marked(body, number)).digest() for number in numbers}
    assert len(digests) == len(numbers)


def test_schedule_is_steady_on_every_connection() -> None:
    """All jobs of the rate, in order, and between two of one connection always the same time."""
    due, line = schedule(500.0, 4.0, 20)
    assert len(due) == pytest.approx(2000, abs=20)
    assert (np.diff(due) >= 0).all()
    assert due[-1] < 4.0
    for connection in range(20):
        np.testing.assert_allclose(np.diff(due[line == connection]), 20 / 500.0)
