"""Inputs led by coverage: atheris (libFuzzer) on one target, which ends its process; and the runs of several.

`python -m bench.fuzz.guided TARGET [libFuzzer options] [corpus directories]` is one such process.
"""

import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bench.fuzz.corpus import CORPUS, OUT
from bench.fuzz.limits import Failure

_MODULE: Final = "bench.fuzz.guided"
MAX_LEN: Final = 4096
TIMEOUT_S: Final = 25
"""Of one input, on the wall."""
MEMORY_MIB: Final = 2048
_GRACE_S: Final = 120.0
_EXECUTED: Final = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_SAID: Final = re.compile(r"=== Uncaught Python exception: ===\s*(.*)")
_KINDS: Final = {"crash": "crash", "timeout": "hang", "oom": "memory"}


@dataclass(frozen=True, slots=True)
class Guided:
    """What came of one run.

    Attributes:
        inputs: executed.
        failure: what ended it early, or None.
    """

    inputs: int
    failure: Failure | None


class Hunt:
    """One running process.

    Args:
        target: name.
        seconds: that it looks for.
        seed: of its random numbers.
    """

    def __init__(self, target: str, seconds: int, seed: int) -> None:
        self._target = target
        self._artifacts = OUT / "found" / target
        self._log = OUT / f"{target}.log"
        found = OUT / "corpus" / target
        for directory in (self._artifacts, found, CORPUS / target):
            directory.mkdir(parents=True, exist_ok=True)
        for old in self._artifacts.iterdir():
            old.unlink()
        options = [
            f"-max_total_time={seconds}",
            f"-seed={seed}",
            f"-max_len={MAX_LEN}",
            f"-timeout={TIMEOUT_S}",
            f"-rss_limit_mb={MEMORY_MIB}",
            f"-artifact_prefix={self._artifacts}/",
            "-print_final_stats=1",
        ]
        command = [sys.executable, "-m", _MODULE, target, *options, str(found), str(CORPUS / target)]
        self._deadline = time.monotonic() + seconds + _GRACE_S
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)

    def result(self) -> Guided:
        """Wait for its end. A process that does not end by itself is ended, and is a hang."""
        try:
            self._process.wait(max(1.0, self._deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.stop()
            return Guided(0, Failure("hang", self._target, b"", f"the process did not end; see {self._log}"))
        text = self._log.read_text(errors="replace")
        executed = _EXECUTED.search(text)
        inputs = int(executed[1]) if executed else 0
        failure = self._found(text)
        if failure is None and (self._process.returncode or not inputs):
            failure = Failure("crash", self._target, b"", f"exit code {self._process.returncode}; see {self._log}")
        return Guided(inputs, failure)

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()

    def _found(self, text: str) -> Failure | None:
        for path in sorted(self._artifacts.iterdir()):
            kind = _KINDS.get(path.name.split("-")[0])
            if kind is not None:
                said = _SAID.search(text)
                return Failure(kind, self._target, path.read_bytes(), said[1] if said else f"see {self._log}")  # type: ignore[arg-type]
        return None


def hunt_all(names: Sequence[str], seconds: int, at_once: int, seed: int) -> dict[str, Guided]:
    """Look on each target for `seconds`, on `at_once` of them at a time."""
    found: dict[str, Guided] = {}
    for start in range(0, len(names), at_once):
        hunts = {name: Hunt(name, seconds, seed) for name in names[start : start + at_once]}
        try:
            for name, hunt in hunts.items():
                found[name] = hunt.result()
        finally:
            for hunt in hunts.values():
                hunt.stop()
    return found


def save(names: Sequence[str]) -> None:
    """Add to the kept corpus what was found to reach further, and no more of it than that takes (libFuzzer's merge)."""
    for name in names:
        command = [sys.executable, "-m", _MODULE, name, "-merge=1", f"-max_len={MAX_LEN}"]
        subprocess.run([*command, str(CORPUS / name), str(OUT / "corpus" / name)], check=True, capture_output=True)


def _main(argv: list[str]) -> None:
    import atheris  # type: ignore[import-untyped]  # noqa: PLC0415 - instruments what is imported after it

    with atheris.instrument_imports(include=["worker", "schemas", "pamqp", "bench.fuzz.targets"]):
        from bench.fuzz.targets import TARGETS  # noqa: PLC0415 - see above
    from bench.fuzz.structured import quiet  # noqa: PLC0415 - imports the targets

    quiet()
    target = TARGETS[argv[1]]
    # libFuzzer starts itself again to merge, through a shell: its own name is then a whole command.
    atheris.Setup([f"{sys.executable} -m {_MODULE} {target.name}", *argv[2:]], lambda data: target.run(data) and None)
    atheris.Fuzz()


if __name__ == "__main__":
    _main(sys.argv)
