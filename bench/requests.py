"""What the load is asked for and what it answers, as it travels between two processes."""

from dataclasses import dataclass, field
from typing import Final

REPLY_TO: Final = "amq.rabbitmq.reply-to"


@dataclass(frozen=True, slots=True)
class Address:
    """Where jobs go, and as what.

    Attributes:
        queue: through the default exchange.
        workload: whose bodies.
        peer: whose own protocol they are put in; empty = the project's wire.
    """

    queue: str
    workload: str
    peer: str = ""


@dataclass(slots=True)
class Drained:
    """Answers as they came.

    Attributes:
        at: monotonic seconds of each answer, ascending.
        errors: answers that were no result.
        hits: answers out of a cache.
    """

    at: list[float] = field(default_factory=list)
    errors: int = 0
    hits: int = 0


@dataclass(slots=True)
class OpenLoop:
    """What became of jobs at a steady rate.

    Attributes:
        sent: jobs that were due.
        answered: with a result.
        on_time: of those, answered before the last job was due.
        histogram: latencies from when a job was due to its answer, µs, as `bench.latency` encodes them.
        late_p99_ms: how late the generator itself published; it is part of the latencies.
        seconds: from the first job to the last.
    """

    sent: int
    answered: int
    on_time: int
    errors: int
    histogram: bytes
    late_p99_ms: float
    seconds: float
