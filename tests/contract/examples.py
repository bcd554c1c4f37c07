"""Examples in the documentation: each fenced JSON block, with the schema that the comment before it names."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r"(?:<!-- schema: (?P<schema>[a-z-]+) -->\n)?```json\n(?P<text>.*?)\n```", re.DOTALL)
PAGES = (*sorted(ROOT.glob("docs/**/*.md")), ROOT / "schemas/heimdall.sigmf-ext.md")


@dataclass(frozen=True)
class Example:
    """One JSON block of a page."""

    page: str
    line: int
    schema: str | None
    text: str

    @property
    def document(self) -> Any:
        """The block, read."""
        return json.loads(self.text)

    def __str__(self) -> str:
        return f"{self.page}:{self.line} ({self.schema})"


def examples() -> list[Example]:
    """All of them."""
    return [
        Example(str(page.relative_to(ROOT)), text.count("\n", 0, match.start()) + 1, match["schema"], match["text"])
        for page in PAGES
        for text in [page.read_text(encoding="utf-8")]
        for match in _BLOCK.finditer(text)
    ]


def example(page: str, schema: str) -> Any:
    """The first block of a page that is of a schema, read."""
    return next(found for found in examples() if found.page == page and found.schema == schema).document


def schema(name: str) -> dict[str, Any]:
    """A published schema."""
    document: dict[str, Any] = json.loads((ROOT / f"schemas/{name}.schema.json").read_text(encoding="utf-8"))
    return document
