"""Giving memory back after a model has retired.

What looking at the registry and loading a version leave behind in circles stays until a full collection, which is rare
in a worker (see `worker.service`); and the allocator keeps freed pages until it is asked.
"""

import asyncio
import ctypes
import gc
from contextlib import suppress
from typing import Final

DELAY_S: Final = 1.0
"""After the last lease ended: the batch that held it is forgotten by then."""


def return_memory_soon() -> None:
    """Collect and trim in a while, from the running event loop."""
    asyncio.get_running_loop().call_later(DELAY_S, _collect_and_trim)


def _collect_and_trim() -> None:
    gc.collect()  # Milliseconds: what was there at the start is frozen.
    asyncio.get_running_loop().run_in_executor(None, _trim)


def _trim() -> None:
    with suppress(AttributeError, OSError):  # Not every C library has it.
        ctypes.CDLL(None).malloc_trim(0)
