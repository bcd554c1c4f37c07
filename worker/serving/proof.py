"""Proves a model version in a child process, before this one touches it: what crashes or hangs there harms nobody.

The child is a fresh interpreter, niced, with one thread, a limit on its memory and one on its time.
"""

import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from worker.errors import ModelRejected
from worker.serving.loading import load_version
from worker.serving.rollout import VersionRecord
from worker.serving.session import SessionOptions

_NICENESS: Final = 10
"""At 19 a proof starved for over a minute where other work took all cores."""
_PR_SET_PDEATHSIG: Final = 1
_MAX_TEXT: Final = 400


@dataclass(frozen=True, slots=True)
class ProofLimits:
    """What a version may use while it proves itself.

    Attributes:
        wall_s: seconds of time.
        data_bytes: of memory (RLIMIT_DATA).
    """

    wall_s: float
    data_bytes: int


def prove_in_child(
    directory: Path, record: VersionRecord, limits: ProofLimits, *, max_batch_size: int, require_golden: bool
) -> None:
    """Load, check and run a version in a child: digest, contract, graph, golden vectors, the largest batch.

    Args:
        directory: holds the version's files.
        record: what the registry says of it.
        limits: of the child.
        max_batch_size: largest run that will be asked of it.
        require_golden: refuse a contract without golden vectors.

    Raises:
        ModelRejected: it refused, crashed, or went over a limit.
    """
    order = {
        "directory": str(directory),
        "record": asdict(record),
        "data_bytes": limits.data_bytes,
        "max_batch_size": max_batch_size,
        "require_golden": require_golden,
        "parent": os.getpid(),
    }
    command = [sys.executable, "-m", "worker.serving.proof"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with subprocess.Popen(  # noqa: S603 - our own interpreter and module
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as child:
        _hold_back(child.pid)
        try:
            out, errors = child.communicate(json.dumps(order).encode(), limits.wall_s)
        except subprocess.TimeoutExpired:
            child.kill()
            raise ModelRejected(f"the model did not load and prove itself within {limits.wall_s:g} s") from None
        except BaseException:
            child.kill()
            raise
    _judge(child.returncode, out, errors)


def _judge(returncode: int, out: bytes, errors: bytes) -> None:
    if returncode < 0:
        name = signal.Signals(-returncode).name
        raise ModelRejected(f"the model crashes the process that runs it ({name})")
    try:
        verdict = json.loads(out)
    except json.JSONDecodeError:
        last = " ".join(errors.decode(errors="replace").split())[-_MAX_TEXT:]
        raise ModelRejected(f"the proof ended with code {returncode} and no verdict: {last}") from None
    if verdict["rejected"] is not None:
        raise ModelRejected(verdict["rejected"])


def _hold_back(pid: int) -> None:
    """From its first instant: importing what it needs takes longer than the proof itself."""
    with suppress(OSError):  # It ended already, or the container forbids it.
        os.setpriority(os.PRIO_PROCESS, pid, max(_NICENESS, os.nice(0)))


def _limit(data_bytes: int, parent: int) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (data_bytes, data_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # It died before we asked to die with it.
        sys.exit(1)


def main() -> None:
    """The child: an order on standard input, a verdict on standard output."""
    order = json.load(sys.stdin)
    _limit(order["data_bytes"], order["parent"])
    rejected = None
    try:
        load_version(
            Path(order["directory"]),
            VersionRecord(**order["record"]),
            SessionOptions(),
            max_batch_size=order["max_batch_size"],
            require_golden=order["require_golden"],
        )
    except ModelRejected as error:
        rejected = error.reason
    except MemoryError:
        rejected = f"the model needs more than {order['data_bytes']} bytes of memory"
    json.dump({"rejected": rejected}, sys.stdout)


if __name__ == "__main__":
    main()
