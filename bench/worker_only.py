"""What concerns the worker alone: what batching gains, what a hit costs, more workers, longer queues."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from bench.drain import Drain, drain, fitting_count, kept_full
from bench.figures import Document, spread, spreads
from bench.machine import cores
from bench.options import Options
from bench.place import Place
from bench.requests import Address
from bench.subjects import HEIMDALL, MAX_BATCH, Conditions, Running, running
from bench.traffic import Traffic
from bench.workloads import Workload

Say = Callable[[str], None]
_NAMES = ("jobs_per_s", "cpu_us", "broker_cpu_us", "store_cpu_us")


def batching(place: Place, traffic: Traffic, workload: Workload, options: Options, say: Say) -> Document:
    """Throughput with full batches over throughput without any, in turns."""
    ways = {size: {"max_batch": size} for size in (1, MAX_BATCH)}
    drains = _in_turns(place, traffic, workload, ways, options)
    gains = [many.jobs_per_s / one.jobs_per_s for one, many in zip(drains[1], drains[MAX_BATCH], strict=True)]
    say(f"{workload.name:8} batches of {MAX_BATCH}: {spread(gains)['median']:.2f} times the throughput of one by one")
    return {
        "gain": spread(gains),
        "max_batch": {str(size): spreads(drains[size], _NAMES) for size in drains},
    }


def hits(place: Place, traffic: Traffic, workload: Workload, options: Options, say: Say) -> Document:
    """Processor time of jobs whose body was seen before over that of jobs whose body was not, cache on for both."""
    hit: list[Drain] = []
    miss: list[Drain] = []
    with running(HEIMDALL, Conditions(place, workload, "heimdall.bench-hits", cache=True)) as it:
        count = fitting_count(it, traffic, options.drain_s)
        for _ in range(options.repeats):
            miss.append(drain(it, traffic, count))
            traffic.fill(it.address, 1, bodies=1)
            traffic.expect(1, 30.0)
            traffic.answers(30.0)
            hit.append(drain(it, traffic, count, bodies=1))
    over = [h.cpu_us / m.cpu_us for h, m in zip(hit, miss, strict=True)]
    rate = spread(one.hit_rate for one in hit)
    say(f"{workload.name:8} a hit costs {spread(over)['median']:.2f} of a miss, hit rate {rate['median']:.4f}")
    return {
        "cpu_over_miss": spread(over),
        "hit_rate": rate,
        "hit": spreads(hit, _NAMES),
        "miss": spreads(miss, _NAMES),
    }


def workers(place: Place, traffic: Traffic, workload: Workload, options: Options, say: Say) -> Document:
    """Several workers on one queue."""
    ways = {number: {"processes": number} for number in options.workers}
    drains = _in_turns(place, traffic, workload, ways, options)
    found = {str(number): spreads(drains[number], _NAMES) for number in drains}
    for number, document in found.items():
        say(
            f"{workload.name:8} {number} workers: {document['jobs_per_s']['median']:.0f} jobs/s, "
            f"{document['cpu_us']['median']:.0f} µs CPU per job"
        )
    return {"workload": workload.name, "cores": cores(), "workers": found}


def depths(place: Place, traffic: Traffic, workload: Workload, options: Options, say: Say) -> list[Document]:
    """What a job costs while so many others wait behind it: one is published for every answer."""
    found = []
    for depth in options.depths:
        conditions = Conditions(place, workload, f"heimdall.bench-depth-{depth}")
        place.declare(conditions.queue)
        traffic.fill(Address(conditions.queue, workload.name), depth)
        with running(HEIMDALL, conditions) as it:
            one = kept_full(it, traffic, 4 * options.drain_s)
        place.purge(conditions.queue)
        place.forget_results()
        found.append({"waiting": depth, **{name: getattr(one, name) for name in _NAMES}})
        say(
            f"{workload.name:8} {depth:7} waiting: {one.jobs_per_s:.0f} jobs/s, {one.cpu_us:.0f} µs in the worker and "
            f"{one.broker_cpu_us:.0f} µs in the broker per job"
        )
    return found


def _in_turns(
    place: Place, traffic: Traffic, workload: Workload, ways: dict[int, dict[str, Any]], options: Options
) -> dict[int, list[Drain]]:
    """Drains of the worker under several conditions, all at work at once, each in its turn."""
    drains: dict[int, list[Drain]] = {key: [] for key in ways}
    with ExitStack() as exits:
        its: dict[int, tuple[Running, int]] = {}
        for key, changes in ways.items():
            conditions = Conditions(place, workload, f"heimdall.bench-way-{next(iter(changes))}-{key}", **changes)
            it = exits.enter_context(running(HEIMDALL, conditions))
            its[key] = it, fitting_count(it, traffic, options.drain_s)
        for _ in range(options.repeats):
            for key, (it, count) in its.items():
                drains[key].append(drain(it, traffic, count))
    return drains
