"""Runs scenarios, one after the other or several at once, each in a world of its own."""

import time
import traceback
from collections.abc import Iterator, Sequence

from bench.chaos.report import Row, row
from bench.chaos.scenarios import SCENARIOS
from bench.chaos.site import Site
from bench.chaos.world import Scale, World, world


def run_all(site: Site, numbers: Sequence[int], scale: Scale) -> Iterator[Row]:
    """Run scenarios in turn; a row as each ends."""
    for number in numbers:
        yield run_one(site, number, scale)


def run_one(site: Site, number: int, scale: Scale, broken: str = "") -> Row:
    """Run one scenario. What keeps it from its end is a failure of its row, not of the run.

    Args:
        site: the servers.
        number: of the scenario.
        scale: how much of it.
        broken: how the workers are built wrongly on purpose, for a test of the oracle.
    """
    scenario = SCENARIOS[number]
    began = time.monotonic()
    with world(site, scale, f"{number}-{int(began)}", broken) as it:
        failure = _run(it, number)
        logs = [w.process.log_text() for fleet in it.fleets for w in fleet.workers] if failure else []
    found = row(number, scenario.name, scenario.expected, it, time.monotonic() - began, failure)
    if failure:
        print("\n".join(log[-4000:] for log in logs))
    return found


def _run(it: World, number: int) -> str:
    try:
        SCENARIOS[number].run(it)
    except Exception as error:
        traceback.print_exc()
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return ""
