"""What the client logs, shown to the user of a command."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console


def stderr() -> Console:
    """Where everything goes that is no result."""
    return Console(stderr=True, markup=False, highlight=False)


@contextmanager
def shown(console: Console) -> Iterator[None]:
    """Show the client's log lines on the console."""
    handler = _Messages(console)
    logger = logging.getLogger("client")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    # What the AMQP library logs about a broken connection, the client raises or repairs.
    logging.getLogger("aiormq").addHandler(logging.NullHandler())
    logging.getLogger("aio_pika").addHandler(logging.NullHandler())
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _Messages(logging.Handler):
    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.print(record.getMessage(), style="dim", soft_wrap=True)
