"""`make bench`: the worker, its floors, the plain script and its peers, measured against each other in one run."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

from bench.options import FULL, PARTS, QUICK, Options
from bench.ratios import last_line
from bench.run import OUT, run
from bench.tables import show
from bench.workloads import WORKLOADS
from deploy.local.command import run_command


def main(argv: Sequence[str] | None = None) -> int:
    """The command; 0 when everything that was asked for was measured, whatever it showed."""
    options = _options(_parser().parse_args(argv))
    return run_command(lambda: _measure(options))


def _measure(options: Options) -> int:
    report = run(options, [*sys.argv])
    show(report)
    print(f"report: {OUT}/report.json, {OUT}/report.md and plots beside them")
    print(last_line(report["targets"]))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under five minutes: short runs, no peers")
    parser.add_argument("--workloads", type=_names(WORKLOADS), metavar="NAMES", help=", ".join(WORKLOADS))
    parser.add_argument("--subjects", type=_names(None), metavar="NAMES", default=(), help="only these (and floors)")
    parser.add_argument("--parts", type=_names(PARTS), metavar="NAMES", help=", ".join(PARTS))
    parser.add_argument("--repeats", type=int, help="how often everything is measured")
    parser.add_argument("--with-peers", action="store_true", help="peers in the quick form too")
    parser.add_argument("--without-peers", action="store_true", help="no peers in the full form")
    return parser


def _names(known: object) -> "Names":
    return Names(tuple(known) if isinstance(known, dict | tuple) else None)


class Names:
    """Reads `a,b` as names.

    Args:
        known: those that are allowed; None = any.
    """

    def __init__(self, known: tuple[str, ...] | None) -> None:
        self._known = known

    def __call__(self, text: str) -> tuple[str, ...]:
        """The names, or an error that says which there are."""
        names = tuple(name.strip() for name in text.split(",") if name.strip())
        unknown = [name for name in names if self._known is not None and name not in self._known]
        if unknown or not names:
            raise argparse.ArgumentTypeError(
                f"{', '.join(unknown) or 'nothing'}: known are {', '.join(self._known or ())}"
            )
        return names


def _options(arguments: argparse.Namespace) -> Options:
    options = QUICK if arguments.quick else FULL
    chosen = {
        name: getattr(arguments, name)
        for name in ("workloads", "subjects", "parts", "repeats")
        if getattr(arguments, name)
    }
    peers = (options.peers or arguments.with_peers) and not arguments.without_peers
    return replace(options, peers=peers, **chosen)


if __name__ == "__main__":
    sys.exit(main())
