"""Bad input of every kind: answered, stored, dead-lettered; and whose job an id is."""

import asyncio
import json
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from aio_pika.abc import AbstractIncomingMessage

from deploy.local import Broker
from schemas.problems import ERROR_TABLE, ErrorCode, Problem
from tests.support.bad_jobs import BAD_JOBS, NOT_DEAD
from tests.support.metrics import value
from tests.support.models import metadata, tone
from tests.support.stack import EVERYTHING, management
from tests.support.station import Publisher, Station, publisher

UNDELIVERABLE = "heimdall_undeliverable_replies_total"


@pytest.mark.parametrize("kind", BAD_JOBS)
async def test_each_kind_of_bad_input(kind: str, jobs: Publisher, shared_station: Station) -> None:
    """The error is replied and stored byte for byte alike, and the original is dead-lettered with code and reason."""
    job = BAD_JOBS[kind]()
    job_id = uuid4().hex
    answer = await jobs.locate(job_id=job_id, **job)
    problem = Problem.model_validate_json(answer.body)
    assert answer.content_type == "application/problem+json"
    assert (problem.code, problem.job_id) == (kind, job_id)
    assert problem.title == ERROR_TABLE[ErrorCode(kind)].title
    assert shared_station.redis.get(f"heimdall:result:{job_id}") == answer.body
    if kind in NOT_DEAD:
        return
    await jobs.until(lambda: any(letter.headers["heimdall-job-id"] == job_id for letter in jobs.dead))
    letter = next(letter for letter in jobs.dead if letter.headers["heimdall-job-id"] == job_id)
    assert letter.headers["heimdall-code"] == kind
    assert letter.headers["heimdall-reason"] == problem.detail
    assert letter.body == job.get("body", tone())


async def test_every_code_has_a_bad_job_or_a_test_of_its_own() -> None:
    """No row of the error table is forgotten by this file or by the acceptance tests."""
    elsewhere = {"job_id_conflict", "crashes_worker", "internal"}
    claims = {str(code) for code in ErrorCode if code.startswith("claim_")}  # tests/integration/test_claims.py
    assert {str(code) for code in ErrorCode} == set(BAD_JOBS) | elsewhere | claims


async def test_a_job_without_a_valid_id_is_answered_and_dead_lettered(jobs: Publisher) -> None:
    """Without a valid message_id nothing can be stored, but the publisher and the operator learn of it."""
    answer = await jobs.locate(properties={"message_id": "no id"})
    assert (answer.code, answer.json["job_id"]) == ("malformed_envelope", None)
    await jobs.until(lambda: any(letter.correlation_id == answer.correlation_id for letter in jobs.dead))


async def test_a_swapped_position_is_told_that_longitude_comes_first(jobs: Publisher) -> None:
    """A receiver far from the model's area gets the hint that helps."""
    assert "longitude comes first" in (await jobs.locate(**BAD_JOBS["receiver_mismatch"]())).json["detail"]


async def test_the_wanted_rate_is_said_for_programs(jobs: Publisher) -> None:
    """A wrong sample rate is answered with the right one in machine-readable form."""
    errors = (await jobs.locate(**BAD_JOBS["sample_rate_mismatch"]())).json["errors"]
    assert errors[0]["pointer"] == "global/core:sample_rate"
    assert errors[0]["expected"] == 48_000


async def test_the_same_id_with_another_body_is_a_conflict(jobs: Publisher, shared_station: Station) -> None:
    """A reused id gets job_id_conflict, the dead-letter queue a copy, and the stored result stays."""
    job_id = uuid4().hex
    first = await jobs.locate(tone(1), job_id=job_id)
    second = await jobs.locate(tone(2), job_id=job_id)
    assert second.code == "job_id_conflict"
    assert shared_station.redis.get(f"heimdall:result:{job_id}") == first.body
    await jobs.until(lambda: any(letter.headers["heimdall-code"] == "job_id_conflict" for letter in jobs.dead))


async def test_the_same_id_twice_in_one_batch(jobs: Publisher) -> None:
    """Of two jobs with one id that arrive together one is heard; other input than its own is a conflict."""
    job_id = uuid4().hex
    sent = [await jobs.publish(tone(seed), job_id=job_id) for seed in (1, 1, 2)]
    codes = [(await jobs.reply(correlation_id)).code for correlation_id in sent]
    assert codes == [None, None, "job_id_conflict"]


async def test_the_same_id_from_another_user_is_a_conflict(
    jobs: Publisher, shared_station: Station, broker: Broker
) -> None:
    """Another user with the same id and body does not get the stored result."""
    vhost = urlsplit(shared_station.amqp_url).path
    user = f"eve-{uuid4().hex[:8]}"
    management(broker, "PUT", f"/users/{user}", {"password": "secret", "tags": ""})
    management(broker, "PUT", f"/permissions{vhost}/{user}", EVERYTHING)
    try:
        job_id = uuid4().hex
        first = await jobs.locate(tone(1), job_id=job_id, properties={"user_id": "guest"})
        assert first.code is None
        async with publisher(
            urlsplit(shared_station.amqp_url)
            ._replace(netloc=f"{user}:secret@" + urlsplit(shared_station.amqp_url).netloc.rsplit("@")[1])
            .geturl()
        ) as eve:
            for properties in ({"user_id": user}, {}):
                answer = await eve.locate(tone(1), job_id=job_id, properties=properties)
                assert answer.code == "job_id_conflict"
                assert answer.body != first.body
    finally:
        management(broker, "DELETE", f"/users/{user}")


@pytest.mark.parametrize(
    "reply_to", ["heimdall.inference", "heimdall.dead", "heimdall.reply.mallory.q", "heimdall.reply.guest.", "amq.gen-"]
)
async def test_a_foreign_reply_address_is_refused_before_any_work(
    reply_to: str, jobs: Publisher, shared_station: Station
) -> None:
    """Nothing is published to an address outside the rule, and the job is not computed."""
    job_id = uuid4().hex
    await jobs.publish(job_id=job_id, properties={"reply_to": reply_to, "user_id": "guest"})
    await jobs.until(lambda: any(letter.headers["heimdall-job-id"] == job_id for letter in jobs.dead))
    stored = json.loads(shared_station.redis.get(f"heimdall:result:{job_id}") or b"{}")
    assert stored["code"] == "malformed_envelope"
    assert "reply_to" in stored["detail"]
    assert await jobs.queue_counts() == 0


async def test_a_reply_queue_of_ones_own_user(jobs: Publisher) -> None:
    """A named queue under the job's validated user gets the reply."""
    queue = await jobs.channel.declare_queue("heimdall.reply.guest.mine", exclusive=True)
    await jobs.publish(job_id="mine", properties={"reply_to": queue.name, "user_id": "guest"})
    async with queue.iterator(timeout=30) as messages:
        message = await anext(messages)
    assert json.loads(message.body)["job_id"] == "mine"


async def test_an_undeliverable_reply_is_no_obstacle(jobs: Publisher, shared_station: Station) -> None:
    """A reply queue that is gone is counted; the job is done, its result in the store."""
    before = value(shared_station.workers[0], UNDELIVERABLE)
    gone = await jobs.channel.declare_queue(exclusive=True)
    await gone.delete(if_unused=False, if_empty=False)
    await jobs.publish(job_id="no-requester", properties={"reply_to": gone.name})
    after = await jobs.locate(tone(2))
    assert after.code is None
    assert b"position" in shared_station.redis.get("heimdall:result:no-requester")
    assert value(shared_station.workers[0], UNDELIVERABLE) == before + 1


async def test_a_direct_reply_is_not_taken_for_undeliverable(jobs: Publisher, shared_station: Station) -> None:
    """The broker sends every mandatory message to such an address back, also when the requester gets it."""
    before = value(shared_station.workers[0], UNDELIVERABLE)
    replies: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
    direct = await jobs.channel.get_queue("amq.rabbitmq.reply-to", ensure=False)
    await direct.consume(replies.put, no_ack=True)
    sent = await jobs.publish(properties={"reply_to": direct.name})
    async with asyncio.timeout(30):
        reply = await replies.get()
    assert (reply.correlation_id, b"position" in reply.body) == (sent, True)
    await jobs.locate(tone(2))  # What was to be counted of the first job is counted by now.
    assert value(shared_station.workers[0], UNDELIVERABLE) == before


async def test_headers_of_a_job_are_never_copied(jobs: Publisher) -> None:
    """CC and BCC, which add routes, and unknown headers stay out of the dead letter; what a replay needs is there."""
    job_id = uuid4().hex
    headers = {"CC": ["heimdall.inference"], "BCC": ["heimdall.inference"], "x-secret": "1", "session_id": "s"}
    await jobs.locate(tone(1)[:-1], job_id=job_id, headers=headers, sigmf=metadata(1))
    await jobs.until(lambda: any(letter.headers["heimdall-job-id"] == job_id for letter in jobs.dead))
    letter = next(letter for letter in jobs.dead if letter.headers["heimdall-job-id"] == job_id)
    assert letter.headers["session_id"] == "s"
    assert "sigmf" in letter.headers
    assert not {"CC", "BCC", "x-secret"} & letter.headers.keys()
