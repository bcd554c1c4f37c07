"""When garbage is collected, and giving memory back after a model has retired.

What looking at the registry and loading a version leave behind in circles stays until a full collection, which is rare
in a worker (see `collect_rarely`); and the allocator keeps freed pages until it is asked.
"""

import asyncio
import ctypes
import gc
from contextlib import suppress
from typing import Final

DELAY_S: Final = 1.0
"""After the last lease ended: the batch that held it is forgotten by then."""
_COLLECT_AFTER: Final = 20_000
"""Objects: a batch makes thousands, and next to none of them in circles; the usual 700 would stop for each few jobs."""


def collect_rarely() -> None:
    """Leave out of collections what is there now, and collect less often; to be called when all is loaded."""
    # What was imported and loaded stays: a full collection would walk it all, 70 ms each time, to free nothing.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)


def return_memory_soon() -> None:
    """Collect and trim in a while, from the running event loop."""
    asyncio.get_running_loop().call_later(DELAY_S, _collect_and_trim)


def _collect_and_trim() -> None:
    gc.collect()  # Milliseconds: what was there at the start is frozen.
    asyncio.get_running_loop().run_in_executor(None, _trim)


def _trim() -> None:
    with suppress(AttributeError, OSError):  # Not every C library has it.
        ctypes.CDLL(None).malloc_trim(0)
