"""What was found out about a model, check by check."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """How a check went; `SKIP` was not run, because one before it failed."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check.

    Attributes:
        check: its name.
        found: what is the case.
        remedy: what to do about it; empty where nothing need be done.
        figures: the same in numbers, for programs.
    """

    check: str
    status: Status
    found: str
    remedy: str = ""
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Report:
    """Everything found out about one model.

    Attributes:
        model: as the user named it.
        facts: of the file: bytes, digest, opset.
    """

    model: str
    facts: dict[str, Any] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def ok(self, check: str, found: str, **figures: Any) -> None:
        """Add a check that passed."""
        self.findings.append(Finding(check, Status.OK, found, figures=figures))

    def warn(self, check: str, found: str, remedy: str, **figures: Any) -> None:
        """Add a check that passed, with something to think about."""
        self.findings.append(Finding(check, Status.WARN, found, remedy, figures))

    def fail(self, check: str, found: str, remedy: str, **figures: Any) -> None:
        """Add a check that failed: a worker would not serve this model, or should not."""
        self.findings.append(Finding(check, Status.FAIL, found, remedy, figures))

    def skip(self, check: str, found: str) -> None:
        """Add a check that could not be run."""
        self.findings.append(Finding(check, Status.SKIP, found))

    def count(self, status: Status) -> int:
        """Number of findings of a status."""
        return sum(finding.status is status for finding in self.findings)

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return not self.count(Status.FAIL)

    def document(self) -> dict[str, Any]:
        """For `--json`."""
        checks = [
            {"check": f.check, "status": str(f.status), "found": f.found}
            | ({"remedy": f.remedy} if f.remedy else {})
            | ({"figures": f.figures} if f.figures else {})
            for f in self.findings
        ]
        return {"model": self.model, "passed": self.passed, **self.facts, "checks": checks}
