"""`make swaps`: two workers under continuous load while `heimdall ctl` promotes one version after the other.

Ends with one line of figures; the exit code is 0 only if no job was lost, refused, answered with an error, or answered
by anything but the one version that its answer names.
"""

import argparse
import asyncio
import json
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.load import Body, Sent, running
from bench.versions import STEP_M, origin_of, write_shifted
from deploy.local import LocalStackError, ServiceProcess, Stack
from deploy.local.command import run_command
from examples.network import NETWORKS
from examples.scenes import fresh_scenes
from worker.commands.fleet import open_fleet
from worker.commands.orders import Order, Outcome, carry_out
from worker.commands.registry_changes import Rollouts
from worker.commands.swap_figures import SwapFigures, p99_ratio
from worker.config import Settings
from worker.geo.wgs84 import wgs84_to_enu

MODEL: Final = Path("examples/models/torino.onnx")
NAME: Final = "heimdall"
WORKERS: Final = 2
SCENES: Final = 40
BODIES: Final = 8
RATE: Final = 100.0
WARM_UP_SWAPS: Final = 3
TIMEOUT_S: Final = 120.0
JITTER_S: Final = Settings.model_fields["reload_jitter_s"].default
"""What a fleet has unless it is set."""
AFTERMATH_S: Final = 1.0
"""How long after the fleet agrees a job counts as one during the swap."""
SHOWN: Final = 10
TAIL: Final = 6000
"""Characters of a worker's log that are shown when the fleet does not agree."""
TOLERANCE_M: Final = STEP_M / 10


@dataclass
class Run:
    """What was done and seen.

    Attributes:
        windows: beginning and end of each swap that counts, `time.monotonic()`.
        sent: every job of the load.
        rss: worker by worker, bytes, after warming up and at the end.
    """

    windows: list[tuple[float, float]] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    rss: list[tuple[int, ...]] = field(default_factory=list)


def measure(swaps: int, rate: float = RATE, pause_s: float = 2.0) -> SwapFigures:
    """Swap under load on a stack of its own.

    Args:
        swaps: that count; a few before them warm up.
        rate: jobs per second.
        pause_s: seconds between one swap's aftermath and the next swap; at least one.
    """
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    bodies, run = _bodies(), Run()
    with ExitStack() as exits:
        stack = exits.enter_context(Stack.running())
        _register(stack, swaps + WARM_UP_SWAPS + 1)
        workers = [exits.enter_context(_worker(stack, number)) for number in range(WORKERS)]
        load = exits.enter_context(running(stack.broker.url, bodies, rate))
        try:
            asyncio.run(_swap_all(stack, workers, swaps, pause_s, run))
        except LocalStackError as error:
            tails = [f"--- {worker.http_url}\n{_told(worker)}" for worker in workers]
            raise LocalStackError("\n".join([str(error), *tails])) from error
        run.sent = load.stop()
    return figures(run)


def _worker(stack: Stack, number: int) -> ServiceProcess:
    settings = {"HEIMDALL_INSTANCE": f"swaps-{number}", "HEIMDALL_CONTROL_USERS": "guest"}
    # A cached output would be no answer of the session that is being measured.
    settings |= {
        "HEIMDALL_CACHE_ENABLED": "false",
        "HEIMDALL_MODEL_NAME": NAME,
        "HEIMDALL_RELOAD_JITTER_S": str(JITTER_S),
    }
    return ServiceProcess([sys.executable, "-m", "worker"], stack.worker_env() | settings)


def _bodies() -> list[Body]:
    """The smallest of some scenes: what is measured is the swap, not the throughput."""
    scenes = sorted(fresh_scenes(NETWORKS["torino"], SCENES, seed=7, datatype="ci8"), key=lambda scene: len(scene.body))
    return [Body(json.dumps(scene.metadata), scene.body) for scene in scenes[:BODIES]]


def _register(stack: Stack, count: int) -> None:
    """Register versions 1 … count, of which the first is production."""
    print(f"registering {count} versions …", flush=True)
    registry = Rollouts(stack.tracking_uri, NAME)
    with tempfile.TemporaryDirectory() as directory:
        for number in range(1, count + 1):
            model = write_shifted(MODEL, Path(directory, "model.onnx"), number)
            registry.register(model, alias="production" if number == 1 else "candidate")


async def _swap_all(stack: Stack, workers: Sequence[ServiceProcess], swaps: int, pause_s: float, run: Run) -> None:
    rollouts = Rollouts(stack.tracking_uri, NAME)
    await asyncio.sleep(pause_s)
    for number in range(WARM_UP_SWAPS + swaps):
        if number == WARM_UP_SWAPS:
            run.rss.append(_rss(workers))
        window = await _swap(stack, rollouts, str(number + 2))
        if number >= WARM_UP_SWAPS:
            run.windows.append(window)
        await asyncio.sleep(max(pause_s, 1.0))
        print(f"swap {number - WARM_UP_SWAPS + 1:3}: {_mib(_rss(workers))}, {window[1] - window[0]:.1f} s", flush=True)
    run.rss.append(_rss(workers))


async def _swap(stack: Stack, rollouts: Rollouts, version: str) -> tuple[float, float]:
    """Promote as an operator does; when the command was given, and when its aftermath was over."""
    order = Order(f"promote {version}", "reload", NAME, change=lambda: rollouts.promote(version))
    async with open_fleet(stack.broker.url) as fleet:
        began = time.monotonic()
        outcome: Outcome = await carry_out(fleet, order, TIMEOUT_S)
        if not outcome.agreed or len(outcome.answers) != WORKERS:
            raise LocalStackError(f"the fleet does not agree: {json.dumps(outcome.document(), indent=1)}")
        await asyncio.sleep(AFTERMATH_S)
    return began, time.monotonic()


def figures(run: Run) -> SwapFigures:
    """What a run amounts to."""
    during, outside = split(run.sent, run.windows)
    for name, latencies in (("outside", outside), ("during", during)):
        p50, p99 = np.percentile(latencies, (50, 99)) * 1000
        print(f"latency {name} swaps: p50 {p50:.1f} ms, p99 {p99:.1f} ms", flush=True)
    failed = [job for job in run.sent if any(answer["code"] for answer in job.answers)]
    puzzling = mixed(run.sent, origin_of(MODEL))
    for job in [*failed, *puzzling][:SHOWN]:
        print(f"not as it should be: {job.answers}", file=sys.stderr)
    growth = [end / start - 1.0 for start, end in zip(run.rss[0], run.rss[-1], strict=True)]
    return SwapFigures(
        swaps=len(run.windows),
        jobs=len(run.sent),
        lost=sum(not job.answers and not job.refused for job in run.sent),
        refused=sum(job.refused for job in run.sent),
        errors=len(failed),
        mixed=len(puzzling),
        p99_ratio=p99_ratio(during, outside),
        rss_growth=max(growth),
    )


def split(sent: Sequence[Sent], windows: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Latencies of jobs published during swaps, and of those published outside them after the first began."""
    during: list[float] = []
    outside: list[float] = []
    for job in sent:
        if job.latency_s is None or job.at < windows[0][0] - 1.0:
            continue
        inside = any(begin <= job.at <= end for begin, end in windows)
        (during if inside else outside).append(job.latency_s)
    return during, outside


def mixed(sent: Sequence[Sent], origin: tuple[float, float]) -> list[Sent]:
    """Jobs answered by two versions, or with a position elsewhere than the version it names would put it.

    A job that was delivered again may be answered twice, by the same version and alike.
    """
    base: dict[int, tuple[float, float]] = {}
    found = []
    for job in sent:
        answers = [answer for answer in job.answers if not answer["code"]]
        places = [_unshifted(answer, origin) for answer in answers]
        first = base.setdefault(job.body, places[0]) if places else None
        alike = all(first is not None and _near(first, place) for place in places)
        if not alike or len({answer["model_version"] for answer in answers}) > 1:
            found.append(job)
    return found


def _unshifted(answer: dict[str, Any], origin: tuple[float, float]) -> tuple[float, float]:
    """Where version 0 would have answered, if this is an answer of the version that it names."""
    if answer["model_version"] != answer["model"]["version"]:
        return float("nan"), float("nan")
    position = answer["position"]
    east, north = wgs84_to_enu(*origin, position["latitude"], position["longitude"])[:2]
    return float(east) - int(answer["model_version"]) * STEP_M, float(north)


def _near(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return abs(one[0] - other[0]) < TOLERANCE_M and abs(one[1] - other[1]) < TOLERANCE_M


def _rss(workers: Sequence[ServiceProcess]) -> tuple[int, ...]:
    """Resident memory of each worker, bytes."""
    return tuple(_status(worker.pid, "VmRSS") for worker in workers)


def _status(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def _told(worker: ServiceProcess) -> str:
    """The end of a worker's log, without the lines of single jobs."""
    lines = [line for line in worker.log_text().splitlines() if '"job_id"' not in line]
    return "\n".join(lines)[-TAIL:]


def _mib(sizes: Sequence[int]) -> str:
    return " and ".join(f"{size / 2**20:.1f}" for size in sizes) + " MiB"


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--swaps", type=int, default=50)
    parser.add_argument("--rate", type=float, default=RATE, help="jobs per second")
    arguments = parser.parse_args(argv)
    return run_command(lambda: _report(arguments.swaps, arguments.rate))


def _report(swaps: int, rate: float) -> int:
    found = measure(swaps, rate)
    print(found.line())
    return 0 if found.clean else 1


if __name__ == "__main__":
    sys.exit(main())
