"""How much is measured: the quick form, the full one, and parts of either."""

from dataclasses import dataclass
from typing import Final

from bench.workloads import WORKLOADS

PARTS: Final = ("drain", "sla", "sweep", "batching", "hits", "scale", "depth")
"""What can be measured beside one another; `drain` is throughput, processor time and the latency of a lone job."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a run measures.

    Attributes:
        subjects: names; empty = all.
        repeats: how often everything is measured, interleaved.
        drain_s: length of a drain, seconds, about.
        lone_jobs: jobs of one idle-latency measurement.
        floor_s: seconds for the floors of one process.
        sla_s: length of the run at 70 % of capacity.
        sweep: offered loads, as fractions of capacity.
        sweep_s: length of each.
        workers: numbers of workers that are compared.
        depths: numbers of waiting jobs that are compared.
        peers: whether others are measured too.
    """

    quick: bool
    workloads: tuple[str, ...]
    subjects: tuple[str, ...]
    parts: tuple[str, ...]
    repeats: int
    drain_s: float
    lone_jobs: int
    floor_s: float
    sla_s: float
    sweep: tuple[float, ...]
    sweep_s: float
    workers: tuple[int, ...]
    depths: tuple[int, ...]
    peers: bool


QUICK: Final = Options(
    quick=True,
    workloads=tuple(WORKLOADS),
    subjects=(),
    parts=("drain", "sla", "batching", "hits", "scale"),
    repeats=2,
    drain_s=1.0,
    lone_jobs=20,
    floor_s=1.0,
    sla_s=4.0,
    sweep=(0.3, 0.6, 0.9),
    sweep_s=2.5,
    workers=(1, 2),
    depths=(),
    peers=False,
)
FULL: Final = Options(
    quick=False,
    workloads=tuple(WORKLOADS),
    subjects=(),
    parts=PARTS,
    repeats=3,
    drain_s=2.0,
    lone_jobs=40,
    floor_s=3.0,
    sla_s=15.0,
    sweep=(0.2, 0.4, 0.6, 0.8, 1.0, 1.2),
    sweep_s=4.0,
    workers=(1, 2, 4),
    depths=(10, 1_000, 10_000, 100_000),
    peers=True,
)
