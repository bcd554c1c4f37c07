"""`make fuzz`: kept inputs, structured inputs, and inputs led by coverage, on every reader of outside bytes.

Ends with `fuzz: targets=… inputs=… crashes=… hangs=…`; the exit code is 0 only without a finding. What broke something
is kept under tests/fuzz/corpus, and each run of the tests tries it again.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.fuzz.corpus import keep, seeds
from bench.fuzz.guided import hunt_all, save
from bench.fuzz.limits import Failure, attempt
from bench.fuzz.structured import Tally, quiet, run_structured
from bench.fuzz.targets import TARGETS


def main(argv: Sequence[str] | None = None) -> int:
    """Run; the exit code."""
    asked = _arguments(argv)
    os.chdir(Path(__file__).resolve().parents[2])
    names: list[str] = asked.targets
    quiet()
    tallies = {name: _replayed(name) for name in names}
    for name, tally in run_structured(names, asked.inputs, asked.processes).items():
        tallies[name].merge(tally)
    guided = dict.fromkeys(names, 0)
    if asked.minutes_per_target > 0:
        for name, hunt in hunt_all(names, round(60 * asked.minutes_per_target), asked.processes, asked.seed).items():
            guided[name] = hunt.inputs
            if hunt.failure is not None:
                tallies[name].add(hunt.failure)
    if asked.save:
        save(names)
    return _report(tallies, guided)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="structured inputs in all (1000000)")
    parser.add_argument("--minutes-per-target", type=float, default=0.5, help="led by coverage; 0 = none (0.5)")
    parser.add_argument("--targets", nargs="+", choices=list(TARGETS), default=list(TARGETS), help="these only")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="at a time (one per core)")
    parser.add_argument("--seed", type=int, default=0, help="of the inputs led by coverage; 0 = another each time")
    parser.add_argument("--save", action="store_true", help="keep inputs that reach further, for the next run")
    return parser.parse_args(argv)


def _replayed(name: str) -> Tally:
    tally = Tally()
    for data in seeds(name):
        tally.add(attempt(TARGETS[name], data, measure=False))
    return tally


def _report(tallies: dict[str, Tally], guided: dict[str, int]) -> int:
    print(f"{'target':10}{'structured':>12}{'taken':>10}{'refused':>10}{'guided':>14}{'findings':>10}")
    for name, tally in tallies.items():
        verdicts = tally.verdicts
        found = tally.inputs - verdicts["taken"] - verdicts["refused"]
        print(
            f"{name:10}{tally.inputs:12,}{verdicts['taken']:10,}{verdicts['refused']:10,}{guided[name]:14,}{found:10,}"
        )
    failures = [failure for tally in tallies.values() for failure in tally.failures]
    for failure in failures:
        _show(failure)
    hangs = sum(tally.verdicts["hang"] for tally in tallies.values())
    crashes = sum(tally.verdicts["crash"] + tally.verdicts["memory"] for tally in tallies.values())
    inputs = sum(tally.inputs for tally in tallies.values()) + sum(guided.values())
    print(f"fuzz: targets={len(tallies)} inputs={inputs} crashes={crashes} hangs={hangs}")
    return 1 if crashes or hangs else 0


def _show(failure: Failure) -> None:
    place = keep(failure.target, failure.data, failure.kind) if failure.data else "no input"
    print(f"{failure.target}: {failure.kind}: {failure.said}; {place}")


if __name__ == "__main__":
    sys.exit(main())
