"""Structured logs: event names with fields, on standard error, one JSON object per line."""

import json
import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import orjson
import structlog

# Libraries whose own words matter only when something is wrong.
_QUIET = ("aio_pika", "aiormq", "mlflow", "alembic", "urllib3", "aiohttp.access", "git")


def configure(level: str, log_format: str, instance: str) -> None:
    """Set up logging for the process.

    Args:
        level: least level logged.
        log_format: `json` or `console`.
        instance: name of the worker, in each line.
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    if log_format == "json":
        shared.append(structlog.processors.format_exc_info)
    # Its own tracebacks would show local variables: passwords among them, and whole recordings.
    console = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    renderer = _Json(instance) if log_format == "json" else console
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    logging.captureWarnings(True)  # Python's own would be plain text between our lines.
    for name in _QUIET:
        library = logging.getLogger(name)
        library.setLevel(logging.ERROR)
        library.handlers.clear()  # Some bring their own, which would write plain text between our lines.
        library.propagate = True
    # What it says of a failed connection, our own event says with the address.
    logging.getLogger("aiormq.connection").setLevel(logging.CRITICAL)


class _Json:
    def __init__(self, instance: str) -> None:
        self._instance = instance

    def __call__(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
        line = {"instance": self._instance, **event}
        try:
            return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
        except TypeError:  # Integers over 64 bits, text that is no Unicode: rare, and no event may be lost.
            return json.dumps(line, default=str)
