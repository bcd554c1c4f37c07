"""Credentials and certificates that are wrong: never ready, and the log says why."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trustme

from bench.chaos.workers import Worker, wait_for
from bench.chaos.world import World
from deploy.local import Broker, rabbitmq
from deploy.local.ports import PortLease

PASSWORD: Final = "not-the-password"  # noqa: S105 - it is not
_LIVE_S: Final = 90.0
_TRIED: Final = 3


@dataclass(frozen=True)
class Case:
    """A URL that must not work.

    Attributes:
        says: one of these stands in the log.
    """

    name: str
    url: str
    says: tuple[str, ...]


def wrong_access(world: World) -> None:
    """19: wrong password, wrong CA, wrong host name, and plain text where TLS is spoken or the reverse."""
    with _tls_broker(world.directory) as (broker, port, ca, other_ca):
        world.amqp_url = broker.url
        place = f"localhost:{port}"
        plain = broker.url.rpartition(":")[2].rstrip("/")
        cases = [
            Case("wrong password", f"amqps://guest:{PASSWORD}@{place}/?cafile={ca}", ("ACCESS_REFUSED", "refused")),
            Case("wrong CA", f"amqps://guest:guest@{place}/?cafile={other_ca}", ("CERTIFICATE_VERIFY_FAILED",)),
            Case("wrong host name", f"amqps://guest:guest@127.0.0.1:{port}/?cafile={ca}", ("IP address mismatch",)),
            Case(
                "plain text to the TLS port",
                f"amqp://guest:guest@{place}/",
                ("closed", "reset", "Invalid", "Connection"),
            ),
            Case("TLS to the plain port", f"amqps://guest:guest@localhost:{plain}/?cafile={ca}", ("SSL",)),
        ]
        refused = [world.fleet(1, env={"HEIMDALL_AMQP_URL": case.url}, wait=False)[0] for case in cases]
        world.fleet(1, env={"HEIMDALL_AMQP_URL": f"amqps://guest:guest@{place}/?cafile={ca}"})
        with world.load():
            world.answers(50)
            for case, worker in zip(cases, refused, strict=True):
                _check(world, case, worker)
        world.settle()


def _check(world: World, case: Case, worker: Worker) -> None:
    wait_for(lambda: len(worker.events("broker.unavailable")) >= _TRIED, _LIVE_S, 0.5)
    ever = any(worker.events("broker.connected")) or worker.ready()
    said = [str(line["error"]) for line in worker.events("broker.unavailable")]
    clear = len(said) >= _TRIED and all(any(word in text for word in case.says) for text in said)
    world.check(f"{case.name}: ready", not ever, "yes" if ever else "never", "never")
    world.check(f"{case.name}: says", clear, said[0][:160] if said else "nothing", " or ".join(case.says))
    told = PASSWORD in worker.process.log_text()
    world.check(f"{case.name}: password in its log", not told, "yes" if told else "no", "no")


@contextmanager
def _tls_broker(directory: Path) -> Iterator[tuple[Broker, int, Path, Path]]:
    """A broker with a TLS port, its CA, and a CA that is not its."""
    authority, stranger = trustme.CA(), trustme.CA()
    ca, other_ca = directory / "ca.pem", directory / "other-ca.pem"
    authority.cert_pem.write_to_path(ca)
    stranger.cert_pem.write_to_path(other_ca)
    issued = authority.issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(directory / "server.pem")
    issued.private_key_pem.write_to_path(directory / "server.key")
    lease = PortLease.take()
    config = {
        "listeners.ssl.1": f"127.0.0.1:{lease.port}",
        "ssl_options.cacertfile": str(ca),
        "ssl_options.certfile": str(directory / "server.pem"),
        "ssl_options.keyfile": str(directory / "server.key"),
        "ssl_options.verify": "verify_none",
    }
    try:
        with rabbitmq(config=config) as broker:
            yield broker, lease.port, ca, other_ca
    finally:
        lease.release()
