"""Becomes a server, and has `ready` said when the server answers.

    python -m bench.peers.launch HEALTH_URL COMMAND…

What waits for the answer is a process of its own that ends with it: the server is this process, with nothing around it.
"""

import http.client
import os
import sys
import time
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from bench.peers.outcomes import say_ready

TIMEOUT_S: Final = 180.0
POLL_S: Final = 0.1


def main() -> None:
    """Start what waits, then become the command."""
    url, *command = sys.argv[1:]
    if os.fork() == 0:
        if os.fork() == 0:  # A grandchild is nobody's to await: servers that count their children see none of it.
            _wait(url, os.getsid(0))
        os._exit(0)
    os.wait()
    os.execvp(command[0], command)  # noqa: S606 - becomes the server of a peer


def _wait(url: str, session: int) -> None:
    where, deadline = urlsplit(url), time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline and Path(f"/proc/{session}").exists():
        if _answers(where.hostname or "", where.port or 0, where.path):
            say_ready()
            break
        time.sleep(POLL_S)
    os._exit(0)


def _answers(host: str, port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    main()
