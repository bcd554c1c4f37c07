"""Processor time of processes, and the steady middle of a drain."""

import subprocess
import sys
import time

import numpy as np
import pytest

from bench.drain import _steady
from bench.processes import Meter, await_rest, cpu_s, paused, tree
from bench.requests import Drained

BUSY = (
    "import time, subprocess, sys\nwhile time.process_time() < 0.2: pass\nprint('done', flush=True)\nsys.stdin.read()"
)


def test_processor_time_of_another_process() -> None:
    """What a child used is seen from outside, while it lives, and 0 once it is gone."""
    with subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        meter = Meter([child.pid])
        assert child.stdout is not None
        child.stdout.readline()
        assert 0.2 <= cpu_s(child.pid) < 5.0
        used = meter.read()
        assert 0.1 <= used <= cpu_s(child.pid)
        child.communicate()
    assert cpu_s(child.pid) == 0.0
    assert meter.read() == used


def test_a_tree_holds_the_children() -> None:
    """Processes that a subject starts count as its own."""
    child = "import sys; print(1, flush=True); sys.stdin.read()"
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        assert len(tree([parent.pid])) == 2
        parent.communicate()
    assert tree([parent.pid]) == []


def test_only_who_talks_to_the_port_is_paused() -> None:
    """A process without a connection to the port goes on."""
    with subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        with paused([child.pid], 1):
            assert child.stdout is not None
            assert child.stdout.readline() == b"done\n"
        child.communicate()


def test_rest_is_when_the_work_is_done() -> None:
    """A busy process is waited for, one that never rests no longer than is asked, and nobody not at all."""
    begun = "print(1, flush=True)\n"
    with subprocess.Popen([sys.executable, "-c", begun + BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        await_rest([child.pid], 30.0)
        assert cpu_s(child.pid) >= 0.2
        child.communicate()
    with subprocess.Popen([sys.executable, "-c", begun + "while True: pass"], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        began = time.monotonic()
        await_rest([child.pid], 0.6)
        assert time.monotonic() - began >= 0.6
        child.kill()
    await_rest([], 30.0)


def test_the_steady_middle_counts() -> None:
    """Between 15 % and 95 % of 100 answers at 10 per second: 10 jobs/s, and the processor time of just that span."""
    answers = Drained(at=[0.1 * n for n in range(100)], hits=25)
    seconds = np.arange(0.0, 10.0, 0.02)
    samples = np.column_stack([seconds, 0.5 * seconds, 0.2 * seconds, 0.1 * seconds])
    one = _steady(answers, samples, 15, 94)
    assert one.jobs == 79
    assert one.jobs_per_s == pytest.approx(10.0)
    assert one.cpu_us == pytest.approx(50_000.0)
    assert one.broker_cpu_us == pytest.approx(20_000.0)
    assert one.store_cpu_us == pytest.approx(10_000.0)
    assert one.hit_rate == 0.25


def test_a_slow_start_does_not_count() -> None:
    """Seconds before the first answer change nothing."""
    seconds = np.arange(0.0, 40.0, 0.02)
    samples = np.column_stack([seconds] * 4)
    early = _steady(Drained(at=[0.1 * n for n in range(100)]), samples, 15, 94)
    late = _steady(Drained(at=[20 + 0.1 * n for n in range(100)]), samples, 15, 94)
    assert late.jobs_per_s == pytest.approx(early.jobs_per_s)
    assert late.cpu_us == pytest.approx(early.cpu_us)
