"""The scenarios, by number."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bench.chaos.scenarios import (
    access,
    broker_faults,
    clock,
    cluster_faults,
    crashes,
    network_faults,
    registry_faults,
    replies,
    soak,
    store_faults,
)
from bench.chaos.world import World


@dataclass(frozen=True)
class Scenario:
    """One way to break things.

    Attributes:
        name: what is broken.
        expected: beside that nothing is lost, unexpected, differing or left.
        run: breaks it, settles the world and holds the scenario's own bounds.
    """

    name: str
    expected: str
    run: Callable[[World], None]


SCENARIOS: Final[dict[int, Scenario]] = {
    1: Scenario("kill -9 of workers at random", "re-inference at most prefetch times kills", crashes.kills_at_random),
    2: Scenario("a kill at each point between receive and ack", "the promised row", crashes.kills_at_each_point),
    3: Scenario("rolling SIGTERM", "no re-inference, exit 0 in the grace period", crashes.rolling_replacement),
    4: Scenario("a worker frozen (SIGSTOP)", "others take over", crashes.frozen_worker),
    5: Scenario("the broker frozen (SIGSTOP)", "noticed, consuming soon after", broker_faults.frozen_broker),
    6: Scenario("the broker restarted and killed", "consuming again", broker_faults.restarted_broker),
    7: Scenario("all connections closed", "descriptors and tasks flat", broker_faults.closed_connections),
    8: Scenario("packets dropped, reset, 1 Mbit/s", "consuming again", network_faults.bad_network),
    9: Scenario("cuts at every byte of publish and ack", "consuming again", network_faults.cut_at_every_byte),
    10: Scenario("the broker's memory alarm", "memory flat", broker_faults.memory_alarm),
    11: Scenario("the queue deleted and made again", "jobs in it apart, others rerouted", broker_faults.deleted_queue),
    12: Scenario(
        "Redis stopped, frozen, full, slow, emptied", "consumption pauses, no cross-talk", store_faults.redis_away
    ),
    13: Scenario("one job that crashes the process", "it alone in the dead-letter queue", crashes.deadly_job),
    14: Scenario("no reply queue, requester gone", "acked, counted, no loop", replies.nobody_listens),
    15: Scenario("the registry down at start and reload", "what served last serves", registry_faults.registry_down),
    16: Scenario("the clock jumps", "nothing changes", clock.clock_jumps),
    17: Scenario("no disk for the model's download", "what serves goes on, with the reason", registry_faults.disk_full),
    18: Scenario("the leader of a quorum queue killed", "a new leader, consuming again", cluster_faults.killed_leader),
    19: Scenario("wrong password, CA, host name; no TLS", "never ready, a clear message", access.wrong_access),
    20: Scenario("the queue filled to its limit", "publishers refused, not replies", broker_faults.full_queue),
    21: Scenario("soak at 70 % load", "memory, tasks and event loop as before", soak.soak),
}

QUICK: Final = (1, 2, 5, 7, 12, 14)
"""Scenarios of the short form."""
