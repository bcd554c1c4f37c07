"""The benchmark's peers: other ways to the same outcome, each set up as its own documentation advises.

Every peer takes the same bodies from the same queue, computes the same features and runs the same model through
`bench.recipe`, and ends each job alike: stored in Redis (`SET NX EX`), replied with a confirm, told as an event with a
confirm, then acknowledged.

| module | what it holds |
|---|---|
| `peer` | `Peer`, its environment and its commands |
| `queue_peers`, `serving_peers` | what there is, with settings and the reasons for them |
| `outcomes`, `bridge`, `dialects`, `launch` | what the peers' own processes share |
| one directory each | requirements, and the program |

`python -m bench.peers NAME` proves one of them.
"""

from collections.abc import Sequence
from typing import Final

from bench.peers.peer import Command, Peer, PeerUnavailable, RunSettings, Wire
from bench.peers.queue_peers import QUEUE_PEERS
from bench.peers.serving_peers import SERVING_PEERS

__all__ = ["PEERS", "Command", "Peer", "PeerUnavailable", "RunSettings", "Wire"]

PEERS: Final[Sequence[Peer]] = (*QUEUE_PEERS, *SERVING_PEERS)
