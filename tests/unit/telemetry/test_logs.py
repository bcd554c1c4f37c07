import gc
import json
import logging
import sys
import warnings
from decimal import Decimal
from pathlib import Path

import pytest
import structlog

from worker.telemetry.logs import configure


@pytest.fixture(autouse=True)
def _restore():
    """Leave logging as it was found."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    logging.captureWarnings(False)  # A test elsewhere may have left them captured, by what is gone now.
    yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(capsys):
    """What was written to standard error, a JSON object per line."""
    captured = capsys.readouterr()
    assert captured.out == ""
    return [json.loads(line) for line in captured.err.splitlines()]


def test_an_event_is_one_json_object_with_its_fields(capsys):
    """Name, level, time, instance and fields."""
    configure("INFO", "json", "worker-1")
    structlog.get_logger("x").info("delivery.dead_lettered", job_id="j", code="expired", nested={"a": [1]})
    (line,) = lines(capsys)
    assert (
        line.items()
        >= {
            "event": "delivery.dead_lettered",
            "level": "info",
            "instance": "worker-1",
            "job_id": "j",
            "code": "expired",
            "nested": {"a": [1]},
        }.items()
    )
    assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize(
    "field", [Path("/x"), Decimal(1), b"\xff", ValueError("v"), {1, 2}, float("nan"), "a\nb\x00", "é"]
)
def test_any_field_is_written_on_one_line(capsys, field):
    """What JSON does not know is written as text; a line feed does not break the line."""
    configure("INFO", "json", "w")
    structlog.get_logger().info("event", field=field)
    (line,) = lines(capsys)
    assert "field" in line


@pytest.mark.parametrize("field", [2**70, {1: "x"}, "\ud800"])
def test_no_field_loses_its_event(capsys, field):
    """An event is written whatever its fields hold."""
    configure("INFO", "json", "w")
    structlog.get_logger().info("event", field=field)
    (line,) = lines(capsys)
    assert line["event"] == "event"


def test_a_traceback_is_a_field(capsys):
    """Ours, and those of libraries that use the standard logging, on one line each."""
    configure("INFO", "json", "w")
    try:
        {}["bug"]
    except KeyError as error:
        structlog.get_logger().error("job.internal_error", exc_info=error)
        logging.getLogger("library").exception("failed with %s", "this")
    ours, theirs = lines(capsys)
    for line in (ours, theirs):
        assert "KeyError: 'bug'" in line["exception"]
        assert line["level"] == "error"
    assert theirs["event"] == "failed with this"


def test_less_than_the_level_is_not_written(capsys):
    """DEBUG is for debugging."""
    configure("WARNING", "json", "w")
    structlog.get_logger().info("quiet")
    logging.getLogger("library").info("quiet")
    structlog.get_logger().warning("loud")
    assert [line["event"] for line in lines(capsys)] == ["loud"]


def test_talkative_libraries_are_heard_only_in_trouble(capsys):
    """Their own words matter when something is wrong."""
    configure("DEBUG", "json", "w")
    for name in ("aio_pika.connection", "aiormq", "urllib3.pool", "aiohttp.access"):
        logging.getLogger(name).warning("chatter")
        logging.getLogger(name).error("trouble")
    assert [line["event"] for line in lines(capsys)] == ["trouble"] * 4


def test_a_library_with_a_handler_of_its_own_writes_json_too(capsys):
    """Every line is a JSON object: mlflow installs a handler when it is imported, and it is taken off."""
    logger = logging.getLogger("mlflow")
    before = list(logger.handlers)
    logger.handlers[:] = [logging.StreamHandler(sys.stderr)]
    try:
        configure("INFO", "json", "w")
        logger.error("trouble")
        assert [line["event"] for line in lines(capsys)] == ["trouble"]
    finally:
        logger.handlers[:] = before


def test_warnings_of_python_are_json_too(capsys):
    """A coroutine that a library forgot is one object on one line, though its text has several."""

    async def forgotten():
        """Never awaited."""

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        configure("INFO", "json", "w")
        forgotten()
        gc.collect()
        warnings.warn("old\nways", DeprecationWarning, stacklevel=1)
    never_awaited, deprecated = lines(capsys)
    assert never_awaited["level"] == deprecated["level"] == "warning"
    assert "RuntimeWarning: coroutine" in never_awaited["event"]
    assert "DeprecationWarning: old\nways" in deprecated["event"]


def test_context_travels_with_events(capsys):
    """What is bound to the context is in every line."""
    configure("INFO", "json", "w")
    with structlog.contextvars.bound_contextvars(batch=7):
        structlog.get_logger().info("event")
    assert lines(capsys)[0]["batch"] == 7


def test_the_console_format_is_for_people(capsys):
    """No JSON, but the event and its fields."""
    configure("INFO", "console", "w")
    try:
        {}["bug"]
    except KeyError:
        structlog.get_logger().exception("event", job_id="j")
    written = capsys.readouterr().err
    assert "event" in written
    assert "KeyError" in written
    with pytest.raises(json.JSONDecodeError):
        json.loads(written.splitlines()[0])


def test_configuring_twice_does_not_write_twice(capsys):
    """There is one handler, on standard error."""
    configure("INFO", "json", "w")
    configure("INFO", "json", "w")
    structlog.get_logger().info("event")
    assert len(lines(capsys)) == 1
    assert [getattr(handler, "stream", None) for handler in logging.getLogger().handlers] == [sys.stderr]
