"""Latency at loads that no answer can slow down: at 70 % of capacity, and against a rising offered load."""

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Final

from bench.drain import drain, fitting_count, kept_full
from bench.figures import Document, spread
from bench.latency import curve, merged, percentile_ms
from bench.options import Options
from bench.place import Place
from bench.processes import paused
from bench.requests import OpenLoop
from bench.subjects import HEIMDALL, Conditions, Running, Subject, running
from bench.traffic import Traffic
from bench.workloads import Workload

CONNECTIONS: Final = 100
SHARE: Final = 0.7
OUTSTANDING: Final = 256
"""Jobs that wait when capacity is measured under load: two prefetches of the worker."""
_WARM_UP_S: Final = 1.0
_EMPTY_S: Final = 20.0
_POLL_S: Final = 0.2
Say = Callable[[str], None]


def service_level(place: Place, traffic: Traffic, workload: Workload, options: Options, say: Say) -> Document:
    """The worker at 70 % of its capacity, over 100 connections."""
    with running(HEIMDALL, Conditions(place, workload, f"heimdall.bench-{HEIMDALL.name}-sla")) as it:
        found = _capacity(it, traffic, options)
        rate = SHARE * found["jobs_per_s"]
        runs = [_open_loop(it, traffic, rate, options.sla_s) for _ in range(options.repeats)]
    document = found | _document(rate, runs)
    say(
        f"{workload.name:8} at {rate:.0f} jobs/s over {CONNECTIONS} connections: "
        f"p95 {document['p95_ms']['median']:.1f} ms, p99 {document['p99_ms']['median']:.1f} ms, "
        f"success {document['success']:.4f}"
    )
    return document


def sweep(
    place: Place, traffic: Traffic, workload: Workload, subjects: Sequence[Subject], options: Options, say: Say
) -> Document:
    """Throughput and latency of several subjects at rising loads, each up to what the best of them drains."""
    found: Document = {}
    with running(HEIMDALL, Conditions(place, workload, f"heimdall.bench-{HEIMDALL.name}-capacity")) as it:
        capacity = _capacity(it, traffic, options)["jobs_per_s"]
    for subject in subjects:
        with running(subject, Conditions(place, workload, f"heimdall.bench-{subject.name}-sweep")) as it:
            steps = [_step(it, traffic, share * capacity, options.sweep_s) for share in options.sweep]
        found[subject.name] = steps
        say(f"{workload.name:8} {subject.name:16} p95 at rising loads: " + ", ".join(_brief(step) for step in steps))
    return {"capacity_jobs_per_s": capacity, "connections": CONNECTIONS, "subjects": found}


def _capacity(it: Running, traffic: Traffic, options: Options) -> Document:
    """What the worker can do: drained, and with the load beside it; the lesser counts.

    On few cores the load takes its own share of them, and a rate that the machine cannot offer is no capacity.
    """
    count = fitting_count(it, traffic, options.drain_s)
    drained = median(drain(it, traffic, count).jobs_per_s for _ in range(options.repeats))
    kept = median(_under_load(it, traffic, 2 * options.drain_s) for _ in range(options.repeats))
    return {"drained_jobs_per_s": drained, "under_load_jobs_per_s": kept, "jobs_per_s": min(drained, kept)}


def _under_load(it: Running, traffic: Traffic, seconds: float) -> float:
    with paused(it.pids, it.conditions.place.amqp_port):  # What is answered meanwhile would not be replaced.
        traffic.fill(it.address, OUTSTANDING)
    kept = kept_full(it, traffic, seconds)
    _until_empty(it)
    return kept.jobs_per_s


def _open_loop(it: Running, traffic: Traffic, rate: float, seconds: float) -> OpenLoop:
    traffic.open_loop(it.address, rate, _WARM_UP_S, CONNECTIONS)
    one = traffic.open_loop(it.address, rate, seconds, CONNECTIONS)
    _until_empty(it)
    it.check()
    return one


def _step(it: Running, traffic: Traffic, rate: float, seconds: float) -> Document:
    one = _open_loop(it, traffic, rate, seconds)
    histogram = merged([one.histogram])
    percentiles = {f"p{percent}_ms": percentile_ms(histogram, percent) for percent in (50, 95, 99)}
    return {
        "offered_jobs_per_s": rate,
        "answered_jobs_per_s": one.on_time / seconds,
        "success": one.answered / one.sent,
        **percentiles,
    }


def _document(rate: float, runs: Sequence[OpenLoop]) -> Document:
    histograms = [merged([one.histogram]) for one in runs]
    together = merged([one.histogram for one in runs])
    latency_ms, fraction = curve(together)
    percentiles = {
        f"p{percent:g}_ms": spread(percentile_ms(histogram, percent) for histogram in histograms)
        for percent in (50, 95, 99, 99.9)
    }
    return {
        "connections": CONNECTIONS,
        "offered_jobs_per_s": rate,
        "seconds": runs[0].seconds,
        "sent": sum(one.sent for one in runs),
        "success": sum(one.answered for one in runs) / sum(one.sent for one in runs),
        **percentiles,
        "generator_late_p99_ms": spread(one.late_p99_ms for one in runs),
        "histogram": together.encode().decode(),
        "curve": {"latency_ms": latency_ms, "fraction": fraction},
    }


def _until_empty(it: Running) -> None:
    """Let the subject end what waits; what it cannot end in time is removed, so that the next load meets none of it."""
    place, queue = it.conditions.place, it.address.queue
    ends = time.monotonic() + _EMPTY_S
    while place.waiting(queue) and time.monotonic() < ends:
        time.sleep(_POLL_S)
    place.purge(queue)
    time.sleep(_POLL_S)
    place.forget_results()


def _brief(step: Document) -> str:
    return f"{step['offered_jobs_per_s']:.0f}/s {step['p95_ms']:.0f} ms"
