"""`make map`: a local stack, simulated transmitters that move, and `heimdall map`, until Ctrl-C."""

import argparse
import asyncio
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.local import ServiceProcess, Stack
from deploy.local.command import run_command
from deploy.local.process import OwnedProcess
from examples.demo import register_demo_model
from examples.map_sources import publish_sources
from examples.network import NETWORKS

READY_S: Final = 60.0
BAD_EVERY: Final = 75
RATE_HZ: Final = 5.0
USER: Final = "guest"
_URL: Final = re.compile(r"^map: (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class RunningMap:
    """`heimdall map` as a process of its own.

    Attributes:
        process: the command.
        url: of the page.
    """

    process: OwnedProcess
    url: str


@contextmanager
def running_map(amqp_url: str, log: Path, *arguments: object) -> Iterator[RunningMap]:
    """Run the command on a free port; stopped at the end of the block.

    Raises:
        StartFailed: it does not say in time where its page is.
    """
    argv = [sys.executable, "-m", "client.cli", "map", "--url", amqp_url, *map(str, arguments)]
    process = OwnedProcess("heimdall map", argv, {**os.environ, "PYTHONUNBUFFERED": "1"}, log)
    process.start()
    try:
        process.wait_ready(lambda: _URL.search(log.read_text()) is not None, READY_S, "the line `map: URL`")
        found = _URL.search(log.read_text())
        assert found is not None
        yield RunningMap(process, found[1])
    finally:
        process.stop()


def main(argv: Sequence[str] | None = None) -> int:
    """Run until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", nargs="?", default="torino", choices=sorted(NETWORKS))
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args(argv)
    return run_command(lambda: _run(arguments.network, arguments.port))


def _run(network: str, port: int) -> int:
    try:
        _serve(network, port)
    except KeyboardInterrupt:
        print("\nstopped: map, worker, RabbitMQ and Redis are gone")
    return 0


def _serve(network: str, port: int) -> None:
    print("starting RabbitMQ, Redis, a worker and the map …", flush=True)
    with Stack.running() as stack:
        register_demo_model(stack.tracking_uri, network=network)
        env = {**stack.worker_env(), "HEIMDALL_CONTROL_USERS": USER}
        log = stack.directory / "map.log"
        with (
            ServiceProcess([sys.executable, "-m", "worker"], env),
            running_map(stack.broker.url, log, "--port", port) as live_map,
        ):
            print(f"\n  {live_map.url}\n\nSimulated transmitters, 5 captures per second; Ctrl-C ends.", flush=True)
            publishing = publish_sources(stack.broker.url, NETWORKS[network], rate_hz=RATE_HZ, bad_every=BAD_EVERY)
            asyncio.run(publishing)


if __name__ == "__main__":
    sys.exit(main())
