import subprocess
import sys

import pytest

PROGRAM = """
import structlog
from worker.telemetry.logs import configure

configure("DEBUG", {log_format!r}, "w-1")

def connect(url):
    recording = "x" * 100_000
    raise ConnectionError("the server refuses")

try:
    connect("amqp://worker:c4nary" + "-password@localhost")
except ConnectionError:
    structlog.get_logger().exception("broker.lost")
"""


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_tracebacks_show_no_variables(log_format):
    """A traceback names files and lines; passwords and recordings that functions were given stay out of the log."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(log_format=log_format)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "ConnectionError" in ended.stderr
    assert "in connect" in ended.stderr
    assert "c4nary-password" not in ended.stderr
    assert len(ended.stderr) < 5000
