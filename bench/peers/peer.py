"""What the harness needs to know of a peer: how it is installed, which processes it is, how its jobs are published."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from bench.peers.environment import VENVS, PeerUnavailable, install
from bench.recipe import RawJob
from schemas.job import SIGMF_CONTENT_TYPE

__all__ = ["Command", "Peer", "PeerUnavailable", "RunSettings", "Wire"]

ROOT: Final = Path(__file__).resolve().parents[2]
DIRECTORY: Final = Path(__file__).resolve().parent


class Wire(NamedTuple):
    """A job as it is published.

    Attributes:
        properties: of the message; `reply_to` and the like are the publisher's to add.
    """

    body: bytes
    headers: dict[str, Any]
    properties: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """What a run gives every peer alike.

    Attributes:
        queue: a queue that exists; peers declare nothing.
        events_exchange: an exchange that exists.
        model: an ONNX file with its contract inside.
        max_batch: jobs of one ONNX run.
        window_ms: longest wait for a batch to fill.
        threads: of one ONNX run.
    """

    amqp_url: str
    redis_url: str
    queue: str
    events_exchange: str
    model: Path
    max_batch: int = 32
    window_ms: float = 5.0
    threads: int = 1

    def environment(self) -> dict[str, str]:
        """Variables of the peer's processes."""
        return {
            "AMQP_URL": self.amqp_url,
            "REDIS_URL": self.redis_url,
            "QUEUE": self.queue,
            "EVENTS_EXCHANGE": self.events_exchange,
            "MODEL": str(self.model.resolve()),
            "MAX_BATCH": str(self.max_batch),
            "WINDOW_MS": f"{self.window_ms:g}",
            "THREADS": str(self.threads),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            # Numerical libraries must not start threads of their own: features are one thread's work everywhere.
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }


@dataclass(frozen=True, slots=True)
class Command:
    """One process. It prints a line `ready` when it consumes, or serves.

    Attributes:
        env: on top of the environment it is started from.
        cwd: where it is started.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path = ROOT


def as_published(job: RawJob) -> Wire:
    """A job as WIRE has it: the recording is the body, its metadata a header."""
    sigmf = job.sigmf.decode() if isinstance(job.sigmf, bytes) else job.sigmf
    return Wire(job.body, {"sigmf": sigmf}, {"message_id": job.job_id, "content_type": SIGMF_CONTENT_TYPE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Another way to the same outcome.

    Attributes:
        kind: takes jobs from the queue itself, or serves behind HTTP and is fed by the bridge.
        settings: how it is set up, for the report; what is chosen, and why.
        encode: a job as the peer's own protocol wants it; called where jobs are published.
    """

    name: str
    kind: Literal["queue", "serving"]
    settings: Mapping[str, str]
    start: Callable[["Peer", RunSettings], Sequence[Command]] = field(repr=False)
    encode: Callable[[RawJob], Wire] = field(default=as_published, repr=False)

    @property
    def directory(self) -> Path:
        """Requirements and program."""
        return DIRECTORY / self.name

    @property
    def venv(self) -> Path:
        """Its own virtual environment; made by `install`."""
        return VENVS / self.name

    @property
    def module(self) -> str:
        """Dotted name of its directory."""
        return f"{__package__}.{self.name}"

    def program(self, name: str) -> str:
        """Path of a program of its environment."""
        return str(self.venv / "bin" / name)

    def install(self) -> None:
        """Make its environment, unless it is there.

        Raises:
            PeerUnavailable: with the reason.
        """
        install(self.venv, self.directory / "requirements.txt")

    def commands(self, settings: RunSettings) -> Sequence[Command]:
        """Its processes, in the order in which they are to be started, each when the one before is ready."""
        return self.start(self, settings)
