"""What a publisher or an operator's impostor may try through the real queue, and what must not come of it."""

import asyncio
import json
import struct
from collections.abc import Awaitable, Callable, Iterable
from random import Random
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import aio_pika
import aiormq.exceptions
import pamqp.encode
import psutil
import pytest

from deploy.local import Broker
from tests.support.metrics import get, value
from tests.support.models import metadata, tone
from tests.support.stack import EVERYTHING, management
from tests.support.station import PATIENCE_S, Publisher, Station, publisher
from tests.support.traps import control_queues, hostile_addresses, properties_of, set_traps

HOSTILE = 10_000
AT_ONCE = 500
NEIGHBOURS = 5
MOST_MORE_BYTES = 400 * 1024 * 1024
QUIET = {"HEIMDALL_LOG_LEVEL": "WARNING", "HEIMDALL_EVENTS_ENABLED": "false"}


async def in_portions(publish: Callable[[Any], Awaitable[Any]], messages: Iterable[Any]) -> None:
    """Publish many, each confirmed."""
    pending = list(messages)
    for start in range(0, len(pending), AT_ONCE):
        await asyncio.gather(*(publish(message) for message in pending[start : start + AT_ONCE]))


async def neighbours(jobs: Publisher) -> list[str | None]:
    """Codes of good jobs published behind the hostile ones."""
    sent = [await jobs.publish(tone(seed)) for seed in range(NEIGHBOURS)]
    return [(await jobs.reply(correlation_id)).code for correlation_id in sent]


async def shows(station: Station, name: str, most: float, **labels: str) -> None:
    """Wait until the worker's metric is there."""
    async with asyncio.timeout(3 * PATIENCE_S):
        while await asyncio.to_thread(value, station.workers[0], name, **labels) < most:
            await asyncio.sleep(0.2)


async def test_ten_thousand_hostile_reply_addresses(own_station: Station, broker: Broker) -> None:
    """Our queues, control, other users' queues, names that look right: nothing arrives, or is tried, elsewhere."""
    own_station.worker(**QUIET)
    rng = Random(1)
    async with await aio_pika.connect(own_station.amqp_url) as connection:
        channel = await connection.channel(on_return_raises=True)
        traps = await set_traps(channel, broker, own_station)
        exchange = await channel.get_exchange("heimdall.iq", ensure=False)
        messages = [
            aio_pika.Message(
                b"x", message_id=f"job-{n}", content_type="application/json", **properties_of(rng, address)
            )
            for n, address in enumerate(hostile_addresses(rng, HOSTILE))
        ]
        await in_portions(lambda m: exchange.publish(m, "localize", mandatory=True, timeout=PATIENCE_S), messages)
        await shows(own_station, "heimdall_jobs_total", HOSTILE, outcome="error")
        filled = await traps.filled()
    assert filled == {"exchange heimdall.iq": HOSTILE, "exchange heimdall.dead": HOSTILE, "heimdall.dead": HOSTILE}
    assert value(own_station.workers[0], "heimdall_undeliverable_replies_total") == 0
    codes = {json.loads(own_station.redis.get(f"heimdall:result:job-{n}"))["code"] for n in range(0, HOSTILE, 97)}
    assert codes == {"malformed_envelope"}
    assert '"broker.lost"' not in own_station.workers[0].log_text()


def forged(rng: Random) -> aio_pika.Message:
    """A command that moves a worker, or what only looks like one, from somebody who may not command."""
    names = ("pause", "drain", "reload", "resume", "info", "ping", "stop", "load", "PAUSE")
    body: dict[str, Any] = {"command": rng.choice(names), "command_id": uuid4().hex}
    body |= rng.choice(({}, {"expect": "999"}, {"url": "http://127.0.0.1/x"}, {"user_id": "operator"}))
    text = json.dumps(body).encode()
    return aio_pika.Message(
        rng.choice((text, text, text[:-1], b"[" * 3000, b"")),
        user_id=rng.choice((None, "guest")),
        reply_to=rng.choice((None, "heimdall.inference", "heimdall.reply.bob.q", "worker.all")),
        headers=rng.choice(({}, {"user_id": "operator"}, {"CC": ["heimdall.inference"]})),
    )


async def test_ten_thousand_forged_commands(own_station: Station, broker: Broker) -> None:
    """What others than operators command has no effect and no answer elsewhere; nobody passes for an operator."""
    worker = own_station.worker(**QUIET, HEIMDALL_CONTROL_USERS="operator")
    rng = Random(2)
    async with publisher(own_station.amqp_url) as jobs:
        traps = await set_traps(jobs.channel, broker, own_station)
        exchange = await jobs.channel.get_exchange("heimdall.control", ensure=False)
        commands = [forged(rng) for _ in range(HOSTILE)]
        await in_portions(lambda m: exchange.publish(m, "worker.all", timeout=PATIENCE_S), commands)
        await shows(own_station, "heimdall_commands_total", HOSTILE, result="refused")
        filled = await traps.filled()
        assert filled == {"exchange heimdall.control": HOSTILE}
        assert value(worker, "heimdall_commands_total", result="done") == 0
        assert value(worker, "heimdall_commands_total", result="refused") == HOSTILE
        assert get(worker, "/health/ready")[0] == 200
        assert await neighbours(jobs) == [None] * NEIGHBOURS
        message = aio_pika.Message(b'{"command": "pause", "command_id": "1"}', user_id="operator")
        with pytest.raises(aiormq.exceptions.ChannelPreconditionFailed, match="user_id"):
            await exchange.publish(message, "worker.all", timeout=PATIENCE_S)
    assert get(worker, "/health/ready")[0] == 200
    assert value(worker, "heimdall_model_swaps_total") == 1
    assert own_station.registry.view().paused is None


async def test_a_job_id_that_another_user_took_first(shared_station: Station, broker: Broker) -> None:
    """Whoever comes second is told of the conflict, and never reads what the first one was answered."""
    place, user = urlsplit(shared_station.amqp_url), f"eve-{uuid4().hex[:8]}"
    management(broker, "PUT", f"/users/{user}", {"password": "secret", "tags": ""})
    management(broker, "PUT", f"/permissions{place.path}/{user}", EVERYTHING)
    job_id = uuid4().hex
    eves = place._replace(netloc=f"{user}:secret@{place.netloc.rsplit('@')[1]}").geturl()
    try:
        async with publisher(shared_station.amqp_url) as jobs, publisher(eves) as eve:
            taken = await eve.locate(tone(1, n=10), job_id=job_id, properties={"user_id": user})
            answer = await jobs.locate(tone(1, n=10), job_id=job_id, properties={"user_id": "guest"})
            assert (taken.code, answer.code) == ("too_few_samples", "job_id_conflict")
            assert shared_station.redis.get(f"heimdall:result:{job_id}") == taken.body
    finally:
        management(broker, "DELETE", f"/users/{user}")


async def test_routes_in_headers_are_not_copied(shared_station: Station, broker: Broker) -> None:
    """`CC` and `BCC` of a job add no route to what is published for it."""
    async with publisher(shared_station.amqp_url) as jobs:
        traps = await set_traps(jobs.channel, broker, shared_station)
        routes = {"CC": ["heimdall.reply.bob.q", "billing", "localize"], "BCC": ["billing", "heimdall.unrouted"]}
        sent = [
            await jobs.publish(body, headers=routes | {"sigmf": json.dumps(metadata())}) for body in (tone(1), b"x")
        ]
        assert [(await jobs.reply(correlation_id)).code for correlation_id in sent] == [None, "malformed_iq"]
        await jobs.until(lambda: bool(jobs.dead) and len(jobs.events) >= len(sent))
        assert not {"CC", "BCC"} & {name for answer in (*jobs.dead, *jobs.events) for name in answer.headers}
        filled = await traps.filled()
    assert not {"billing", "heimdall.reply.bob.q", "heimdall.unrouted"} & filled.keys()


async def test_a_reply_into_the_workers_own_ear(own_station: Station, broker: Broker) -> None:
    """Who learns the name of a control queue and has results sent there commands nothing, and starts no loop."""
    worker = own_station.worker(HEIMDALL_CONTROL_USERS="operator")
    [ear] = control_queues(broker, own_station)
    async with publisher(own_station.amqp_url) as jobs:
        for seed in range(NEIGHBOURS):
            await jobs.publish(tone(seed), job_id=f"echo-{seed}", properties={"reply_to": ear})
        await shows(own_station, "heimdall_commands_total", NEIGHBOURS, result="refused")
        assert await neighbours(jobs) == [None] * NEIGHBOURS
        assert value(worker, "heimdall_commands_total", result="refused") == NEIGHBOURS
        assert value(worker, "heimdall_commands_total", result="done") == 0


async def test_events_that_are_led_back_to_the_worker(own_station: Station) -> None:
    """An event is no job: even where somebody binds the events to the job queue, one refusal does not feed the next."""
    worker = own_station.worker()
    async with publisher(own_station.amqp_url) as jobs:
        queue = await jobs.channel.get_queue("heimdall.inference", ensure=False)
        await queue.bind("heimdall.events", "#")
        await jobs.locate(b"x")
        await neighbours(jobs)
        await shows(own_station, "heimdall_jobs_total", 2 * (1 + NEIGHBOURS))
        await asyncio.sleep(1.0)
        assert value(worker, "heimdall_jobs_total") == 2 * (1 + NEIGHBOURS)


def json_job(**fields: Any) -> dict[str, Any]:
    """A JSON job."""
    return {"body": json.dumps(fields).encode(), "content_type": "application/json"}


def deep_metadata() -> dict[str, Any]:
    """Metadata with an annotation that nobody could read aloud."""
    return {"sigmf": metadata() | {"annotations": [{"a": json.loads("[" * 900 + "]" * 900)}]}}


BOMBS: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {
    "a body over the limit": ("too_large", lambda: {"body": bytes(5 * 1024 * 1024)}),
    "a long text among pairs": ("malformed_iq", lambda: json_job(iq_data=[["a" * 100_000, "b"]] + [["c", "d"]] * 9000)),
    "lists 400,000 deep": (
        "malformed_metadata",
        lambda: {"body": b"[" * 400_000 + b"]" * 400_000, "content_type": "application/json"},
    ),
    "lists 1,000 deep": (
        "malformed_iq",
        lambda: {"body": b'{"iq_data":' + b"[" * 1000 + b"]" * 1000 + b"}", "content_type": "application/json"},
    ),
    "unknown fields": ("malformed_metadata", lambda: json_job(**{str(index): 0 for index in range(60_000)})),
    "100,000 samples": ("too_large", lambda: json_job(iq_samples=[[[0, 1]]] * 100_000)),
    "metadata 900 deep": ("malformed_metadata", deep_metadata),
    "metadata of 100 KiB": ("too_large", lambda: {"headers": {"sigmf": json.dumps(metadata(note="x" * 100_000))}}),
    "numbers that are none": ("non_finite_iq", lambda: {"body": struct.pack("<f", float("nan")) * 2048}),
    "a path for an id": ("malformed_envelope", lambda: {"job_id": "../../etc/passwd"}),
}


async def test_bombs(shared_station: Station) -> None:
    """Size, depth, NaN: each is refused by name, the neighbours are answered, and the memory stays where it was."""
    [worker] = shared_station.workers
    async with publisher(shared_station.amqp_url) as jobs:
        await neighbours(jobs)
        process = psutil.Process(worker.pid)
        before = most = process.memory_info().rss
        for name, (code, make) in BOMBS.items():
            assert (await jobs.locate(**make())).code == code, name
            most = max(most, process.memory_info().rss)
            assert await neighbours(jobs) == [None] * NEIGHBOURS, name
    assert most - before < MOST_MORE_BYTES
    assert '"broker.lost"' not in worker.log_text()


def entry(key: bytes, tagged: bytes) -> bytes:
    """One entry of a table."""
    return bytes([len(key)]) + key + tagged


TABLES = {
    "130,000 empty values": entry(b"x", b"A" + struct.pack(">I", 130_000) + b"V" * 130_000),
    "a number that cannot be written again": entry(b"confidence", b"d" + struct.pack(">d", 1e300)),
    "bytes within a list": entry(b"capture_time", b"A" + struct.pack(">I", 7) + b"S\x00\x00\x00\x02\xff\xfe"),
}


async def test_headers_that_no_library_writes(shared_station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a job ends like any other that is refused, with its letter, and takes nobody's connection with it."""
    [worker] = shared_station.workers
    encode = pamqp.encode.field_table

    def table(entries: dict[str, Any] | None) -> bytes:
        raw = TABLES.get(str((entries or {}).get("RAW")))
        return encode(entries) if raw is None else struct.pack(">I", len(raw)) + raw

    monkeypatch.setitem(pamqp.encode.METHODS, "table", table)
    async with publisher(shared_station.amqp_url) as jobs:
        for kind in TABLES:
            job_id = uuid4().hex
            hostile = await jobs.publish(headers={"RAW": kind, "sigmf": ""}, job_id=job_id)
            assert await neighbours(jobs) == [None] * NEIGHBOURS, kind
            assert (await jobs.reply(hostile)).code in {"malformed_envelope", "malformed_metadata"}, kind
            await jobs.until(lambda sent=job_id: any(d.headers.get("heimdall-job-id") == sent for d in jobs.dead))
    assert '"broker.lost"' not in worker.log_text()


async def test_a_delivery_mode_that_does_not_exist(shared_station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker refuses the publisher before a worker sees anything."""
    encode = pamqp.encode.METHODS["octet"]
    async with publisher(shared_station.amqp_url) as jobs:
        monkeypatch.setitem(
            pamqp.encode.METHODS, "octet", lambda number: b"\x07" if number in (1, 2) else encode(number)
        )
        with pytest.raises(aiormq.exceptions.ChannelPreconditionFailed, match="delivery_mode"):
            await jobs.publish(tone(1))
