"""What a dead letter of a real worker says of the circumstances."""

import json
from types import SimpleNamespace

from tests.support.models import tone
from tests.support.station import Publisher, Station, publisher
from worker.commands.dead_letter import read_letter
from worker.commands.dead_selection import Selection, since

POISON = tone(1, amplitude=1e5)


async def test_the_capsule(own_station: Station) -> None:
    """When, what input, which model, in whose company and with what versions the job failed."""
    own_station.worker(HEIMDALL_EAGER="false", HEIMDALL_MAX_WAIT_MS="1000")  # So that they share a batch.
    async with publisher(own_station.amqp_url) as jobs:
        sent = [await jobs.publish(tone(n), job_id=f"mate-{n}") for n in range(6)]
        sent.append(await jobs.publish(POISON, job_id="poison"))
        await jobs.until(lambda: all(jobs.replies[c] for c in sent) and bool(jobs.dead))
    said = jobs.dead[0].headers
    stored = json.loads(own_station.redis.get("heimdall:result:poison"))
    assert said["heimdall-input-digest"] == stored["input_digest"]
    located = json.loads(own_station.redis.get("heimdall:result:mate-0"))
    assert said["heimdall-model-digest"] == located["model"]["digest"]
    assert said["heimdall-model-alias"] == "production"
    assert set(said["heimdall-batch-mates"]) <= {f"mate-{n}" for n in range(6)}
    assert said["heimdall-batch-size"] == len(said["heimdall-batch-mates"]) + 1 > 1
    assert said["heimdall-routing-key"] == "localize"
    assert "onnxruntime " in said["heimdall-versions"]


async def test_what_the_command_reads_of_it(shared_station: Station, jobs: Publisher) -> None:
    """The digest that it computes where there is no capsule is the worker's own; and the letter's age is known."""
    await jobs.publish(tone(1)[:-3], job_id="young", properties={"user_id": "guest"})
    await jobs.until(lambda: any(letter.headers["heimdall-job-id"] == "young" for letter in jobs.dead))
    young = next(letter for letter in jobs.dead if letter.headers["heimdall-job-id"] == "young")
    fields = {"body": young.body, "content_type": young.content_type}
    fields |= dict.fromkeys(("message_id", "correlation_id", "user_id", "reply_to"))
    letter = read_letter(SimpleNamespace(headers=young.headers, **fields))
    bare = {name: value for name, value in young.headers.items() if name != "heimdall-input-digest"}
    assert read_letter(SimpleNamespace(headers=bare, **fields)).input_digest == letter.input_digest
    assert letter in Selection(since_ns=since("5m"))
    assert letter not in Selection(since_ns=since("2099-01-01T00:00:00Z"))
