"""`make audit`: lock files, unsafe code, known vulnerabilities, and a bill of materials in out/sbom.

Exit code 0: everything was checked and is clean. 1: something is wrong. 2: nothing is wrong, but the advisory database
did not answer for every package, so that nobody knows; `--offline` accepts that, and still says so.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from deploy.local.locks import lock_files, pins, problems
from deploy.local.unsafe_code import Finding, search

ROOT: Final = Path(__file__).resolve().parents[2]
SEARCHED: Final = ("worker", "schemas", "client", "deploy")
ALLOWED: Final = {
    ("worker/commands/apart.py", "multiprocessing"): "a command's own child, that it starts and that answers it alone",
}
"""Findings that are right, by file and name, and why."""

SHIPPED: Final = ("requirements/worker.lock", "deploy/requirements/gpu.lock", "deploy/requirements/mlflow.lock")
"""What goes into an image, and gets a bill of materials."""

_TIMEOUT_S: Final = 900
CLEAN, WRONG, UNKNOWN = 0, 1, 2


@dataclass
class Advisories:
    """What is known of the locked packages.

    Attributes:
        audited: packages that the database was asked about and answered.
        unknown: name → why nothing is known of it.
        vulnerable: name and version → identifiers of advisories.
    """

    audited: int = 0
    unknown: dict[str, str] = field(default_factory=dict)
    vulnerable: dict[str, list[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        if self.vulnerable:
            return f"{len(self.vulnerable)}-vulnerable"
        return f"unchecked({len(self.unknown)}-of-{self.audited + len(self.unknown)})" if self.unknown else "clean"


def check_locks(root: Path) -> list[str]:
    """What is wrong with any lock file."""
    return [f"{file.relative_to(root)}: {wrong}" for file in lock_files(root) for wrong in problems(file.read_text())]


def check_code(root: Path) -> list[Finding]:
    """Unsafe code that nobody has given a reason for."""
    return [found for found in search(root, SEARCHED) if (found.file, found.name) not in ALLOWED]


def read_advisories(report: str, into: Advisories) -> None:
    """Add what pip-audit says as JSON. It ends with 0 also where it knows nothing: each package has to be looked at.

    Raises:
        ValueError: it is no report.
    """
    for package in json.loads(report)["dependencies"]:
        if "skip_reason" in package:
            into.unknown[package["name"]] = package["skip_reason"]
        elif package["vulns"]:
            into.vulnerable[f"{package['name']} {package['version']}"] = [vuln["id"] for vuln in package["vulns"]]
        else:
            into.audited += 1


def ask_advisories(files: Sequence[Path]) -> Advisories:
    """Ask pip-audit about every package of the lock files, as they stand there."""
    found = Advisories()
    for file in files:
        command = [_tool("pip-audit"), "--requirement", str(file), "--require-hashes", "--disable-pip"]
        done = _run([*command, "--format", "json", "--progress-spinner", "off"])
        try:
            read_advisories(done.stdout, found)
        except (ValueError, KeyError, TypeError):
            reason = (done.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1]
            found.unknown |= {pin.name: reason for pin in pins(file.read_text())}
    return found


def write_bill(lock: Path, target: Path) -> int:
    """Write a CycloneDX bill of materials of one lock file; the number of components.

    Raises:
        RuntimeError: the generator failed, or the bill does not hold every package.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    command = [
        _tool("cyclonedx-py"),
        "requirements",
        "--output-reproducible",
        "--pyproject",
        str(ROOT / "pyproject.toml"),
    ]
    done = _run([*command, "--output-file", str(target), str(lock)])
    if done.returncode != 0:
        raise RuntimeError(f"no bill of materials of {lock.name}: {done.stderr.strip()[-400:]}")
    bill: dict[str, Any] = json.loads(target.read_text())
    listed = {(component["name"].lower(), component["version"]) for component in bill["components"]}
    missing = {(pin.name.lower(), pin.version) for pin in pins(lock.read_text())} - listed
    if missing:
        raise RuntimeError(f"the bill of {lock.name} leaves out {sorted(missing)}")
    return len(listed)


def main(arguments: list[str] | None = None) -> int:
    """Check everything; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local.audit", description="Audit the supply chain.")
    parser.add_argument("--offline", action="store_true", help="pass although advisories could not be asked for")
    offline = parser.parse_args(arguments).offline
    files, wrong, unsafe = lock_files(ROOT), check_locks(ROOT), check_code(ROOT)
    bills = {lock: write_bill(ROOT / lock, ROOT / f"out/sbom/{Path(lock).stem}.cdx.json") for lock in SHIPPED}
    advisories = ask_advisories(files)
    _explain(wrong, unsafe, advisories)
    packages = sum(len(pins(file.read_text())) for file in files)
    print(
        f"audit: locks={len(files)} packages={packages} unlocked={len(wrong)} unsafe={len(unsafe)} "
        f"advisories={advisories} sbom_components={sum(bills.values())} sbom=out/sbom"
    )
    if wrong or unsafe or advisories.vulnerable:
        return WRONG
    return UNKNOWN if advisories.unknown and not offline else CLEAN


def _explain(wrong: list[str], unsafe: list[Finding], advisories: Advisories) -> None:
    for line in (*wrong, *unsafe):
        print(f"wrong: {line}", file=sys.stderr)
    for package, identifiers in advisories.vulnerable.items():
        print(f"vulnerable: {package}: {', '.join(identifiers)}", file=sys.stderr)
    if advisories.unknown:
        reason = next(iter(advisories.unknown.values()))
        print(
            f"the advisory database did not answer for {len(advisories.unknown)} packages, so nobody knows whether "
            f"they are vulnerable: run this where it can be reached. It said: {reason}",
            file=sys.stderr,
        )


def _tool(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=_TIMEOUT_S)


if __name__ == "__main__":
    sys.exit(main())
