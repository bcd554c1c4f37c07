"""Everything that is fuzzed."""

from typing import Final

from bench.fuzz.target import Target
from bench.fuzz.targets import amqp, commands, contracts, iq, recordings

TARGETS: Final[dict[str, Target]] = {
    target.name: target
    for target in (iq.TARGET, recordings.SIGMF, recordings.JSON, amqp.TARGET, commands.TARGET, contracts.TARGET)
}
