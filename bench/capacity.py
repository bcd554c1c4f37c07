"""How much a deployment needs, from the figures of a report.

    python -m bench.capacity [--receivers 1000] [--rate 5] [out/bench/report.json]

Processor time is what was measured per job; memory is what is held: bodies by prefetch, results by their time to live.
"""

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.figures import middle
from bench.ratios import WORKER
from bench.run import OUT
from bench.tables import ABSENT, Sheet
from bench.workloads import WORKLOADS
from worker.config import Settings

UTILISATION: Final = 0.7
"""Of a core or a worker; the rest is for what comes in bursts."""
REPLICAS: Final = 3
"""Of a quorum queue in a cluster of three: each body is written so often."""
RECEIVERS: Final = 1_000
FIXES_PER_S: Final = 5.0
_GIB: Final = 2**30
_US: Final = 1e6


@dataclass(frozen=True, slots=True)
class Costs:
    """What one job of a workload costs, as measured.

    Attributes:
        receivers: in a job.
        drained_per_s: by one worker with nothing else to wait for.
        worker_us, broker_us, store_us: processor time.
        stored_bytes: of its result in Redis, with Redis's own overhead.
        memory_mib: of a worker.
    """

    workload: str
    receivers: int
    body_bytes: int
    drained_per_s: float
    worker_us: float
    broker_us: float
    store_us: float
    stored_bytes: float
    memory_mib: float


@dataclass(frozen=True, slots=True)
class Need:
    """What a load needs.

    Attributes:
        workers: processes, each at `UTILISATION` of what it drains.
        worker_cores, broker_cores, store_cores: at the same utilisation; the broker's without replication.
        ingress_mib_s: of bodies into the broker, once; a cluster writes `REPLICAS` times as much.
        held_gib: of bodies that all workers hold.
        stored_gib: of results that Redis holds.
    """

    jobs_per_s: float
    workers: int
    worker_cores: float
    broker_cores: float
    store_cores: float
    ingress_mib_s: float
    held_gib: float
    stored_gib: float


def costs(report: Mapping[str, Any], workload: str) -> Costs | None:
    """What a report says of a workload; None where it does not say enough."""
    document = report["workloads"].get(workload, {})
    worker = document.get("subjects", {}).get(WORKER, {})
    if middle(worker, "drain", "cpu_us") is None:
        return None
    drain = {name: figures["median"] for name, figures in worker["drain"].items()}
    return Costs(
        workload=workload,
        receivers=WORKLOADS[workload].plan.receivers,
        body_bytes=document["body_bytes"],
        drained_per_s=drain["jobs_per_s"],
        worker_us=drain["cpu_us"],
        broker_us=drain["broker_cpu_us"],
        store_us=drain["store_cpu_us"],
        stored_bytes=document["floors"]["stored_bytes"],
        memory_mib=worker["memory_mib"],
    )


def need(one: Costs, receivers: int, fixes_per_s: float, *, prefetch: int, ttl_s: float) -> Need:
    """What so many receivers need, each in one job per fix.

    Args:
        one: cost of a job.
        receivers: altogether; a job has `one.receivers` of them.
        fixes_per_s: of each job's source.
        prefetch: bodies that a worker holds.
        ttl_s: life of a result.
    """
    jobs_per_s = receivers / one.receivers * fixes_per_s
    workers = math.ceil(jobs_per_s / (UTILISATION * one.drained_per_s))
    return Need(
        jobs_per_s=jobs_per_s,
        workers=workers,
        worker_cores=jobs_per_s * one.worker_us / _US / UTILISATION,
        broker_cores=jobs_per_s * one.broker_us / _US / UTILISATION,
        store_cores=jobs_per_s * one.store_us / _US / UTILISATION,
        ingress_mib_s=jobs_per_s * one.body_bytes / 2**20,
        held_gib=workers * prefetch * one.body_bytes / _GIB,
        stored_gib=jobs_per_s * ttl_s * one.stored_bytes / _GIB,
    )


def model(report: Mapping[str, Any]) -> Sheet:
    """The capacity model: what one core does, and what is held in memory."""
    columns = ["Workload", "jobs/s per worker core", "jobs/s per broker core", "body, KiB", "result in Redis, KiB"]
    columns += ["held by a prefetch, MiB", "a worker, MiB"]
    prefetch = Settings.model_fields["prefetch_count"].default
    rows = [
        [
            one.workload,
            f"{_US / one.worker_us:,.0f}",
            f"{_US / one.broker_us:,.0f}" if one.broker_us else ABSENT,
            f"{one.body_bytes / 1024:,.0f}",
            f"{one.stored_bytes / 1024:,.1f}",
            f"{prefetch * one.body_bytes / 2**20:,.1f}",
            f"{one.memory_mib:,.0f}",
        ]
        for one in _known(report)
    ]
    note = f"Prefetch is {prefetch} jobs. Everything is a median; memory of a worker is the most that was seen."
    return Sheet("Capacity model", columns, rows, note)


def needs(report: Mapping[str, Any], receivers: int, fixes_per_s: float) -> Sheet:
    """What a deployment needs, were all its receivers of one workload's kind."""
    fields = Settings.model_fields
    prefetch, ttl_s = fields["prefetch_count"].default, fields["result_ttl_s"].default
    columns = ["Jobs like", "jobs/s", "workers", "their cores", "broker cores", "Redis cores", "bodies, MiB/s"]
    columns += ["held, GiB", "stored, GiB"]
    rows = []
    for one in _known(report):
        found = need(one, receivers, fixes_per_s, prefetch=prefetch, ttl_s=ttl_s)
        rows.append(
            [
                f"{one.workload} ({one.receivers} per job)",
                f"{found.jobs_per_s:,.0f}",
                f"{found.workers}",
                *(f"{cores:,.1f}" for cores in (found.worker_cores, found.broker_cores, found.store_cores)),
                f"{found.ingress_mib_s:,.0f}",
                f"{found.held_gib:,.2f}",
                f"{found.stored_gib:,.1f}",
            ]
        )
    note = (
        f"Cores and workers at {UTILISATION:.0%} utilisation; broker cores for one copy of a job, a quorum queue of "
        f"{REPLICAS} writes every body {REPLICAS} times; results live {ttl_s} s (`HEIMDALL_RESULT_TTL_S`)."
    )
    return Sheet(f"{receivers:,} receivers at {fixes_per_s:g} fixes per second", columns, rows, note)


def _known(report: Mapping[str, Any]) -> list[Costs]:
    return [one for name in WORKLOADS if (one := costs(report, name)) is not None]


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.capacity", description=__doc__)
    parser.add_argument("report", nargs="?", type=Path, default=OUT / "report.json")
    parser.add_argument("--receivers", type=int, default=RECEIVERS)
    parser.add_argument("--rate", type=float, default=FIXES_PER_S, help="fixes per second of each receiver")
    arguments = parser.parse_args(argv)
    try:
        report = json.loads(arguments.report.read_text())
    except (OSError, ValueError) as error:
        print(f"error: {arguments.report}: {error}; `make bench` writes one", file=sys.stderr)
        return 1
    print(model(report).markdown())
    print(needs(report, arguments.receivers, arguments.rate).markdown())
    return 0


if __name__ == "__main__":
    sys.exit(main())
