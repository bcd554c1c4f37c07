"""`make chaos`: break everything that can break, under load, and count what became of every confirmed job.

Ends with one line; the exit code is 0 only if nothing was lost, unexpected, differing or left, and every bound held.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.chaos.report import Row, summary, write
from bench.chaos.run import run_all
from bench.chaos.scenarios import QUICK, SCENARIOS
from bench.chaos.site import site
from bench.chaos.world import Scale
from deploy.local.command import run_command

OUT: Final = Path("out/chaos")


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    asked = _parser().parse_args(argv)
    default = Scale(jobs=400, rate=100.0, quick=True) if asked.quick else Scale()
    scale = Scale(asked.jobs or default.jobs, asked.rate or default.rate, asked.quick, asked.soak_minutes)
    numbers = asked.scenarios or (QUICK if asked.quick else sorted(SCENARIOS))
    return run_command(lambda: _break(numbers, scale, asked.out, _command(argv)))


def _break(numbers: Sequence[int], scale: Scale, out: Path, command: str) -> int:
    rows: list[Row] = []
    with site() as shared:
        for row in run_all(shared, numbers, scale):
            rows.append(row)
            _show(row)
            write(out, rows, command)
    print(summary(rows))
    return 0 if all(row.clean for row in rows) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"a minute or so: scenarios {', '.join(map(str, QUICK))}")
    parser.add_argument("--scenarios", type=_numbers, help="numbers, comma-separated; default: all of the form")
    parser.add_argument("--jobs", type=int, default=0, help="at least, per scenario")
    parser.add_argument("--rate", type=float, default=0.0, help="jobs per second")
    parser.add_argument("--soak-minutes", type=float, default=10.0, help="of scenario 21")
    parser.add_argument("--out", type=Path, default=OUT, help="directory of report.json and report.md")
    return parser


def _numbers(text: str) -> list[int]:
    known = ", ".join(map(str, sorted(SCENARIOS)))
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdigit() and int(word) in SCENARIOS for word in words):
        raise argparse.ArgumentTypeError(f"{text!r}: numbers of scenarios, separated by commas; there are {known}")
    return [int(word) for word in words]


def _show(row: Row) -> None:
    mark = "ok  " if row.clean else "FAIL"
    print(
        f"{mark} {row.number:2} {row.name}: confirmed={row.confirmed} lost={row.lost} unexpected={row.unexpected} "
        f"differing={row.differing} left={row.left} re-inferred={row.re_inferred} in {row.took_s:.0f} s",
        flush=True,
    )
    for check in row.checks:
        print(f"        {'  ' if check.holds else '! '}{check.what}: {check.measured} ({check.bound})", flush=True)
    for note in (*row.notes, row.failure):
        if note:
            print(f"        {note}", flush=True)


def _command(argv: Sequence[str] | None) -> str:
    return " ".join(["python -m bench.chaos", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    sys.exit(main())
