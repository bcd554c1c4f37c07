"""`python -m bench.peers NAME…`: install a peer, run some jobs through it, and say whether the outcomes are equal."""

import argparse
import sys
from collections.abc import Sequence

from bench.peers import PEERS, Peer, PeerUnavailable
from bench.peers.proof import NotEqual, prove
from deploy.local import LocalStackError


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    known = {peer.name: peer for peer in PEERS}
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m bench.peers")
    parser.add_argument("names", nargs="+", choices=[*known, "all"], metavar="NAME", help=", ".join([*known, "all"]))
    parser.add_argument("--jobs", type=int, default=50)
    parser.add_argument("--workload", default="tiny")
    options = parser.parse_args(argv)
    chosen = list(known) if "all" in options.names else options.names
    return max(_report(known[name], options.jobs, options.workload) for name in chosen)


def _report(peer: Peer, count: int, workload: str) -> int:
    try:
        seen = prove(peer, count, workload)
    except PeerUnavailable as reason:
        print(f"{peer.name}: unavailable: {reason}")
        return 1
    except (NotEqual, LocalStackError) as error:
        print(f"{peer.name}: FAILED: {error}")
        return 1
    print(
        f"{peer.name}: {len(seen.replies)} {workload} jobs stored, replied, told and acknowledged; "
        f"{seen.jobs_per_s:.0f} jobs/s, {seen.cpu_ms:.2f} ms CPU each",
        flush=True,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
