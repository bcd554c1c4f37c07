"""Puts the report into docs/reliability.md, between its markers: `python -m bench.chaos.publish [report.json]`."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench.chaos.report import table

PAGE: Final = Path("docs/reliability.md")
REPORT: Final = Path("out/chaos/report.json")
BEGIN: Final = "<!-- chaos: begin -->"
END: Final = "<!-- chaos: end -->"


class NoMarkers(Exception):
    """The page has no place for the report."""


def published(page: str, report: dict[str, Any]) -> str:
    """The page with this report in place of what was between the markers.

    Raises:
        NoMarkers: it does not have both, in this order.
    """
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise NoMarkers(f"the page has no lines {BEGIN} and {END}, in this order; put them where the table belongs")
    return f"{head}{BEGIN}\n\n{_section(report)}\n{END}{tail}"


def _section(report: dict[str, Any]) -> str:
    return f"Made by `{report['command']}`:\n\n{table(report['scenarios'])}\n```\n{report['summary']}\n```\n"


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    arguments = sys.argv[1:] if argv is None else argv
    source = Path(arguments[0]) if arguments else REPORT
    try:
        PAGE.write_text(published(PAGE.read_text(), json.loads(source.read_text())))
    except (OSError, ValueError, KeyError, NoMarkers) as error:
        print(f"error: {source} → {PAGE}: {error!r}; `make chaos` writes the report", file=sys.stderr)
        return 1
    print(f"{PAGE}: table of {source}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
