"""A thousand jobs of mixed kinds, one in twenty of them bad."""

import asyncio
import json
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import numpy as np
from jsonschema import Draft202012Validator

from deploy.local import Broker
from tests.support.bad_jobs import BAD_JOBS, NOT_DEAD
from tests.support.models import metadata, tone
from tests.support.rfc7946 import assert_rfc7946
from tests.support.stack import management
from tests.support.station import Answer, Station, publisher

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"
RESULT, BATCH_RESULT, PROBLEM = (
    Draft202012Validator(json.loads((SCHEMAS / f"{name}.schema.json").read_text()))
    for name in ("result", "batch-result", "problem")
)
JOBS = 1000
BAD_EVERY = 20


def good_job(number: int) -> dict[str, Any]:
    """A job of one of five kinds."""
    channels = 1 + number % 4
    match number % 5:
        case 0 | 1:
            return {"body": tone(number, channels=channels), "sigmf": metadata(channels)}
        case 2:
            codes = (np.frombuffer(tone(number, channels=channels), "<f4") * 20_000).astype("<i2")
            return {"body": codes.tobytes(), "sigmf": metadata(channels, "ci16_le")}
        case 3:
            pairs = np.frombuffer(tone(number, n=600), "<f4").reshape(-1, 2).tolist()
            return {"body": json.dumps({"iq_data": pairs}).encode(), "content_type": "application/json"}
        case _:
            ranges = [{"sample_start": 512 * i, "sample_count": 512} for i in range(3)]
            return {"body": tone(number, n=1536), "sigmf": metadata(1, **{"heimdall:samples": ranges})}


async def test_a_thousand_jobs(own_station: Station, broker: Broker) -> None:
    """Each good job has its result as reply and in Redis; each bad one its error there and in the dead-letter queue."""
    own_station.worker()
    bad_kinds = cycle([*BAD_JOBS, "job_id_conflict"])
    expected: dict[str, tuple[str, str | None]] = {}
    async with publisher(own_station.amqp_url) as jobs:
        await jobs.locate(tone(), job_id="taken")
        for number in range(JOBS):
            kind = next(bad_kinds) if number % BAD_EVERY == 0 else None
            job_id = "taken" if kind == "job_id_conflict" else uuid4().hex
            if kind is None:
                job = good_job(number)
            else:
                job = BAD_JOBS[kind]() if kind in BAD_JOBS else {"body": tone(number + 1)}
            expected[await jobs.publish(job_id=job_id, **job)] = (job_id, kind)
        dead = sum(kind is not None and kind not in NOT_DEAD for _, kind in expected.values())
        await jobs.until(lambda: all(jobs.replies[c] for c in expected) and len(jobs.dead) >= dead, patience=120)
        for correlation_id, (job_id, kind) in expected.items():
            (answer,) = jobs.replies[correlation_id]
            assert answer.code == kind
            if kind != "job_id_conflict":
                assert own_station.redis.get(f"heimdall:result:{job_id}") == answer.body
            assert_published_form(answer)
        assert len(jobs.dead) == dead
        assert all(letter.headers["heimdall-code"] and letter.headers["heimdall-reason"] for letter in jobs.dead)
    vhost = urlsplit(own_station.amqp_url).path
    assert await _settled(broker, vhost)


def assert_published_form(answer: Answer) -> None:
    """The answer validates against the published JSON Schema of its kind, and its GeoJSON against RFC 7946."""
    document = answer.json
    if answer.code is not None:
        PROBLEM.validate(document)
        return
    (BATCH_RESULT if "predictions" in document else RESULT).validate(document)
    for fix in document.get("predictions", [document]):
        assert_rfc7946(fix["geojson"])


async def _settled(broker: Broker, vhost: str) -> bool:
    # The broker's own figures lag behind by its collection interval.
    for _ in range(100):
        queue = management(broker, "GET", f"/queues{vhost}/heimdall.inference")
        if queue.get("messages_ready") == 0 and queue.get("messages_unacknowledged") == 0:
            return True
        await asyncio.sleep(0.2)
    return False
