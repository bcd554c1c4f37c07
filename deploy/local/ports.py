"""Loopback ports that stay ours, also while the server behind them is stopped.

Ports lie below the kernel's ephemeral range, so that no outgoing connection can take one. Each is claimed by an
abstract Unix socket of the same number: visible to every user in this network namespace, gone with its process.
"""

import random
import socket
from dataclasses import dataclass
from typing import Self

from deploy.local.errors import LocalStackError

FIRST, LAST = 20_000, 32_000
"""Linux hands out 32768-60999 to outgoing connections unless told otherwise."""

ATTEMPTS = 200


@dataclass(frozen=True)
class PortLease:
    """One TCP port on 127.0.0.1, free when leased, and leased to nobody else until released."""

    port: int
    _claim: socket.socket

    @classmethod
    def take(cls) -> Self:
        """Lease a free port; never blocks.

        Raises:
            LocalStackError: No port of the range is free.
        """
        for _ in range(ATTEMPTS):
            port = random.randint(FIRST, LAST)  # noqa: S311 - spreads parallel runs, hides nothing
            claim = _claim(port)
            if claim is not None:
                return cls(port, claim)
        raise LocalStackError(
            f"no free TCP port on 127.0.0.1 between {FIRST} and {LAST} in {ATTEMPTS} tries; free some"
        )

    def release(self) -> None:
        """Give the port back; harmless when repeated."""
        self._claim.close()


def _claim(port: int) -> socket.socket | None:
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        claim.bind(f"\0heimdall-port-{port}")
        _check_free(port)
    except OSError:
        claim.close()
        return None
    return claim


def _check_free(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
