"""Everything in a vhost that a message could reach, watched: a queue on each exchange, and queues under given names."""

from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import uuid4

import aio_pika

from deploy.local import Broker
from tests.support.stack import management
from tests.support.station import PATIENCE_S, Station

JOB_KEYS = ("localize", "dead", "localization.complete", "localization.failed", "worker.all")
OTHERS_QUEUES = (
    "heimdall.reply.bob.q",
    "heimdall.reply.bob.guest.q",
    "heimdall.reply.guest.admin.q",
    "heimdall.reply.guest",
    "heimdall.reply.guest.",
    "heimdall.reply.",
    "heimdall.reply..q",
    "heimdall.reply.guestx.q",
    "heimdall.reply.None.q",
    "heimdall.reply.#",
    "HEIMDALL.reply.guest.q",
    "heimdall.reply.guest/q",
    "heimdall.control",
    "heimdall.events",
    "heimdall.iq",
    "worker.all",
    "localize",
    "billing",
    "null",
    "0",
    "amq",
)
OUR_QUEUES = ("heimdall.inference", "heimdall.dead", "heimdall.unrouted")
_PATTERNS = ("heimdall.reply.*", "heimdall.#", "*", " ", "/", "default", "amq.default")
_PIECES = (
    "amq.",
    "gen-",
    "rabbitmq.reply-to",
    "heimdall.",
    "reply.",
    "guest",
    "bob",
    ".",
    "..",
    "\n",
    "\x00",
    "/",
    "é",
    "#",
)


@dataclass
class Traps:
    """Queues that nobody should ever fill.

    Attributes:
        by_exchange: the queue bound to each exchange, however that one routes.
        named: queues under the names of other people's.
    """

    channel: aio_pika.abc.AbstractChannel
    by_exchange: dict[str, str] = field(default_factory=dict)
    named: tuple[str, ...] = OTHERS_QUEUES

    async def filled(self) -> dict[str, int]:
        """Queues with messages in them, by exchange or name, and how many; those of jobs and dead letters too."""
        watched = {**self.by_exchange, **{name: name for name in (*self.named, *OUR_QUEUES)}}
        counts = {}
        for what, queue in watched.items():
            declared = await self.channel.declare_queue(queue, passive=True)
            counts[what] = declared.declaration_result.message_count or 0
        return {what: count for what, count in counts.items() if count}


async def set_traps(channel: aio_pika.abc.AbstractChannel, broker: Broker, station: Station) -> Traps:
    """Watch every exchange that exists now, the default one by queues under the names an attacker would try."""
    vhost = urlsplit(station.amqp_url).path
    traps = Traps(channel)
    for exchange in management(broker, "GET", f"/exchanges{vhost}"):
        name = exchange["name"]
        if not name:
            continue
        queue = await channel.declare_queue(f"trap-{uuid4().hex}", exclusive=True)
        keys = JOB_KEYS if exchange["type"] == "direct" else ("#",)
        for key in keys:
            await queue.bind(name, key, timeout=PATIENCE_S)
        traps.by_exchange[f"exchange {name}"] = queue.name
    for name in traps.named:
        await channel.declare_queue(name, exclusive=True)
    return traps


def control_queues(broker: Broker, station: Station) -> list[str]:
    """Names of the queues on which the workers hear commands."""
    vhost = urlsplit(station.amqp_url).path
    bindings = management(broker, "GET", f"/exchanges{vhost}/{quote('heimdall.control')}/bindings/source")
    return sorted({binding["destination"] for binding in bindings if binding["destination"].startswith("amq.gen-")})


def hostile_addresses(rng: Random, count: int) -> list[str]:
    """Addresses that no requester has a right to: real names, names that look right, and names made of their pieces."""
    found: list[str] = []
    while len(found) < count:
        address = _address(rng)
        if 0 < len(address.encode()) <= 255 and not _rightful(address):
            found.append(address)
    return found


def _address(rng: Random) -> str:
    known = rng.choice((*OUR_QUEUES, *OTHERS_QUEUES, *_PATTERNS))
    match rng.randrange(5):
        case 0 | 1:
            return known
        case 2:
            return "".join(rng.choice(_PIECES) for _ in range(rng.randrange(1, 7)))
        case 3:
            place = rng.randrange(len(known) + 1)
            return known[:place] + rng.choice(_PIECES) + known[place:]
        case _:
            return rng.choice((known.upper(), known + " ", " " + known, known + "\n", f"amq.gen-{known} ", f"/{known}"))


def _rightful(address: str) -> bool:
    """What the wire contract lets the user `guest` name, said in other words than the worker says it."""
    for prefix in ("amq.gen-", "amq.rabbitmq.reply-to"):
        rest = address.removeprefix(prefix)
        if rest != address and all("!" <= character <= "~" for character in rest):
            return True
    own = address.removeprefix("heimdall.reply.guest.")
    return own not in ("", address) and "." not in own


def properties_of(rng: Random, address: str) -> dict[str, Any]:
    """Who asks: half of them with the user that the broker has validated."""
    return {"reply_to": address} | ({"user_id": "guest"} if rng.random() < 0.5 else {})
