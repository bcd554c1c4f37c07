"""Generates the schemas and the pages that are made from the code.

`python -m docs.generate` writes them; `python -m docs.generate --check` fails, and shows what differs, where a file is
not what the code says.
"""

import argparse
import difflib
import sys
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Final

from docs.asyncapi import asyncapi_file
from docs.json_schemas import schema_files
from docs.tables import page_files

ROOT: Final = Path(__file__).resolve().parent.parent
_SHOWN_LINES: Final = 20


def generated_files() -> Iterator[tuple[str, str]]:
    """Path, from the project's root, and text of each generated file."""
    yield from chain(schema_files(), [asyncapi_file()], page_files())


def write(root: Path = ROOT) -> None:
    """Write every generated file."""
    for path, text in generated_files():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")


def drift(root: Path = ROOT) -> list[str]:
    """For each file that is not what the code says, the beginning of the difference."""
    return [found for path, text in generated_files() if (found := _difference(root, path, text))]


def main(arguments: list[str] | None = None) -> int:
    """Write or check; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m docs.generate", description="Generate schemas and pages.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file differs")
    if not parser.parse_args(arguments).check:
        write()
        return 0
    found = drift()
    if found:
        sys.stderr.write("\n".join(found) + "\n\nrun `python -m docs.generate` and commit what it writes\n")
    return 1 if found else 0


def _difference(root: Path, path: str, text: str) -> str:
    file = root / path
    if not file.exists():
        return f"{path} is missing"
    lines = difflib.unified_diff(
        file.read_text(encoding="utf-8").splitlines(), text.splitlines(), path, f"{path} (generated)", lineterm=""
    )
    return "\n".join(islice(lines, _SHOWN_LINES))


if __name__ == "__main__":
    sys.exit(main())
