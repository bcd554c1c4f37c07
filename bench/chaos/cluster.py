"""Three private brokers that are one cluster: one port mapper, one cookie."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Final

from bench.chaos.workers import wait_for
from deploy.local import Broker, LocalStackError
from deploy.local.broker import answers
from deploy.local.rabbit_node import RabbitNode

NODES: Final = 3
_COOKIE: Final = ".erlang.cookie"
_REPLICATED_S: Final = 120.0


class Member(RabbitNode):
    """A node that finds the others.

    Args:
        first: whose port mapper and cookie it shares; None for the first itself.
    """

    def __init__(self, first: "Member | None" = None) -> None:
        self._first = first
        super().__init__(management=False, config={}, answers=answers)
        if first is not None:
            (self._home / _COOKIE).chmod(0o600)
            (self._home / _COOKIE).write_text((first._home / _COOKIE).read_text())  # noqa: SLF001 - of its own class
            (self._home / _COOKIE).chmod(0o400)

    @property
    def name(self) -> str:
        """As the cluster knows it."""
        return f"heimdall-{self.port}@localhost"

    @property
    def url(self) -> str:
        """Of this node alone."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    def join(self, other: "Member") -> None:
        """Become a part of another node's cluster."""
        for words in (["stop_app"], ["join_cluster", other.name], ["start_app"]):
            self.execute(["rabbitmqctl", "-q", *words])

    def _environment(self) -> dict[str, str]:
        own = super()._environment()
        return own if self._first is None else own | {"ERL_EPMD_PORT": self._first._environment()["ERL_EPMD_PORT"]}  # noqa: SLF001


class Cluster:
    """Members that are one broker.

    Args:
        members: joined already.
    """

    def __init__(self, members: list[Member]) -> None:
        self.members = members

    def leader(self, queue: str) -> Member:
        """The member that leads a quorum queue.

        Raises:
            LocalStackError: no member says so.
        """
        for member in self.members:
            try:
                listed = Broker(member.url, member, None).ctl("list_queues", "--no-table-headers", "name", "leader")
            except LocalStackError:
                continue
            leaders = dict(line.split("\t", 1) for line in listed.splitlines() if "\t" in line)
            found = next((m for m in self.members if m.name == leaders.get(queue, "").strip()), None)
            if found is not None:
                return found
        raise LocalStackError(f"no member names a leader of {queue}")

    def whole(self, queue: str) -> bool:
        """Whether every member holds a live replica of a queue."""
        listed = self.members[0].execute(["rabbitmqctl", "-q", "list_queues", "--no-table-headers", "name", "online"])
        line = next((line for line in listed.splitlines() if line.split("\t")[0] == queue), "")
        return all(member.name in line for member in self.members)

    def until_whole(self, queue: str) -> bool:
        """Wait until every member holds a live replica; whether that came to be."""
        return wait_for(partial(_calm, partial(self.whole, queue)), _REPLICATED_S, 0.5) is not None


@contextmanager
def running() -> Iterator[Cluster]:
    """A cluster; nothing is left of it when the block ends."""
    with ExitStack() as exits:
        members: list[Member] = []
        for _ in range(NODES):
            member = Member(members[0] if members else None)
            exits.callback(member.close)
            member.start()
            members.append(member)
        for member in members[1:]:
            member.join(members[0])
        yield Cluster(members)


def _calm(ask: Callable[[], bool]) -> bool:
    """An answer; no where a member is not ready to give one."""
    try:
        return ask()
    except LocalStackError:
        return False
