"""Claim checks through a real worker: bodies in a real S3 and on a disk, and references that must not be followed."""

import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from client import Capture, ClaimStore, HeimdallClient, receiver
from deploy.local import Broker, RedisServer
from tests.support.models import expected_position, tone
from tests.support.object_store import ObjectStore, object_store
from tests.support.stack import fresh_database, fresh_vhost
from tests.support.station import Publisher, Station, publisher, station

MIB = 1024 * 1024
LARGE = 530_000
"""Samples of a body of 4.2 MB: more than the worker takes in a message."""
SETTINGS = {"HEIMDALL_CLAIM_MAX_BYTES": str(8 * MIB), "HEIMDALL_CLAIM_MEMORY_BYTES": str(8 * MIB)} | {
    "HEIMDALL_MEMORY_BUDGET_BYTES": str(1100 * MIB)
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """An S3 with an allowed bucket and one that nobody allowed."""
    with object_store(tmp_path_factory.mktemp("s3")) as it:
        it.make_bucket("jobs")
        it.make_bucket("private")
        yield it


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the worker may read from, beside one that it may not."""
    root = tmp_path_factory.mktemp("disk")
    for name in ("iq", "iq-secret"):
        (root / name).mkdir()
        (root / name / "tone.sigmf-data").write_bytes(tone())
    (root / "iq" / "way-out").symlink_to(root / "iq-secret")
    (root / "iq" / "linked").symlink_to(root / "iq-secret" / "tone.sigmf-data")
    return root


@pytest.fixture(scope="module")
def claim_station(
    broker: Broker, redis_server: RedisServer, registry_file: Path, store: ObjectStore, disk: Path
) -> Iterator[Station]:
    """A world whose one worker follows references to `s3://jobs/iq/` and to one folder."""
    with (
        fresh_vhost(broker) as amqp_url,
        fresh_database(redis_server) as redis_url,
        station(amqp_url, redis_url, f"sqlite:///{registry_file}") as it,
    ):
        it.worker(HEIMDALL_CLAIM_SOURCES=f"s3://jobs/iq,file://{disk}/iq", **SETTINGS, **store.env)
        yield it


@pytest.fixture
async def claims(claim_station: Station) -> AsyncIterator[Publisher]:
    """A publisher to that worker."""
    async with publisher(claim_station.amqp_url) as it:
        yield it


def claim(url: str, body: bytes, **changes: object) -> dict[str, str]:
    """The header of a reference."""
    said = {"url": url, "size": len(body), "sha256": hashlib.sha256(body).hexdigest()} | changes
    return {"claim": json.dumps(said)}


async def test_an_object_is_located_like_a_body(claims: Publisher, store: ObjectStore) -> None:
    """A body in S3, too large for a message, gets its position."""
    body = tone(3, n=LARGE)
    store.client.put_object(Bucket="jobs", Key="iq/a/large.sigmf-data", Body=body)
    answer = await claims.locate(b"", headers=claim("s3://jobs/iq/a/large.sigmf-data", body))
    assert answer.code is None, answer.json
    position = answer.json["position"]
    expected = expected_position(body, "cf32_le", 1)
    assert (position["latitude"], position["longitude"]) == pytest.approx(expected, abs=1e-5)


async def test_a_repeat_needs_no_object_any_more(claims: Publisher, store: ObjectStore) -> None:
    """Once the outcome is stored the dataset may go: the same job is answered with the same bytes."""
    body = tone(5)
    store.client.put_object(Bucket="jobs", Key="iq/once", Body=body)
    first = await claims.locate(b"", job_id="once", headers=claim("s3://jobs/iq/once", body))
    store.client.delete_object(Bucket="jobs", Key="iq/once")
    again = await claims.locate(b"", job_id="once", headers=claim("s3://jobs/iq/once", body))
    assert first.code is None
    assert again.body == first.body


async def test_a_file_is_located(claims: Publisher, disk: Path) -> None:
    """A file under an allowed folder is read."""
    answer = await claims.locate(b"", headers=claim(f"file://{disk}/iq/tone.sigmf-data", tone()))
    assert answer.code is None, answer.json


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("s3://private/iq/tone", "claim_refused"),
        ("s3://jobs/iq-secret/tone", "claim_refused"),
        ("s3://jobs/iq/../secret", "claim_refused"),
        ("s3://jobs/iq/missing", "claim_missing"),
        ("file://{disk}/iq-secret/tone.sigmf-data", "claim_refused"),
        ("file://{disk}/iq/../iq-secret/tone.sigmf-data", "claim_refused"),
        ("file://{disk}/iq/%2e%2e/iq-secret/tone.sigmf-data", "claim_refused"),
        ("file://{disk}/iq/way-out/tone.sigmf-data", "claim_refused"),
        ("file://{disk}/iq/linked", "claim_refused"),
        ("file://{disk}/iq/missing", "claim_missing"),
        ("file:///etc/passwd", "claim_refused"),
        ("http://127.0.0.1/iq", "malformed_envelope"),
    ],
)
async def test_what_is_not_followed(url: str, code: str, claims: Publisher, disk: Path) -> None:
    """Each reference out of the allowed prefixes, or to nothing, ends with its code and as a dead letter."""
    job_id = f"refused-{hashlib.sha256(url.encode()).hexdigest()[:8]}"
    headers = claim(url.format(disk=disk), tone())
    answer = await claims.locate(b"", job_id=job_id, headers=headers)
    assert answer.code == code, answer.json
    await claims.until(lambda: any(dead.headers["heimdall-job-id"] == job_id for dead in claims.dead))
    (letter,) = [dead for dead in claims.dead if dead.headers["heimdall-job-id"] == job_id]
    assert (letter.body, letter.headers["claim"]) == (b"", headers["claim"])


async def test_what_is_not_as_claimed(claims: Publisher, disk: Path, store: ObjectStore) -> None:
    """Another size, another digest, too much, a body beside the claim, a claim of JSON: each has its code."""
    url, body = f"file://{disk}/iq/tone.sigmf-data", tone()
    store.client.put_object(Bucket="jobs", Key="iq/tone", Body=body)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"headers": claim(url, body, size=len(body) - 8)}, "claim_mismatch"),
        ({"headers": claim(url, body, sha256="0" * 64)}, "claim_mismatch"),
        ({"headers": claim("s3://jobs/iq/tone", body, size=len(body) + 8)}, "claim_mismatch"),
        ({"headers": claim("s3://jobs/iq/tone", body, sha256="0" * 64)}, "claim_mismatch"),
        ({"headers": claim(url, body, size=9 * MIB)}, "too_large"),
        ({"headers": claim(url, body), "body": body}, "malformed_envelope"),
        ({"headers": claim(url, body), "content_type": "application/json"}, "malformed_envelope"),
    ]
    for job, code in wrong:
        answer = await claims.locate(**{"body": b""} | job)
        assert answer.code == code, answer.json


async def test_the_client_stores_what_is_too_large(
    claim_station: Station, claims: Publisher, disk: Path, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`publish` with a store puts the body there and sends a reference, in S3 and on a disk; the worker finds both."""
    for name, value in store.env.items():
        monkeypatch.setenv(name, value)
    places = [receiver("rx0", latitude=45.0, longitude=7.5)]
    for prefix in ("s3://jobs/iq/client", f"file://{disk}/iq"):
        capture = Capture(samples=tone(7, n=140_000), sample_rate=48e3, receivers=places)
        async with HeimdallClient(claim_station.amqp_url) as client:
            job_id = await client.publish(capture, store=ClaimStore(prefix))
        await claims.until(lambda job_id=job_id: any(job_id in event.body.decode() for event in claims.events))
        (event,) = [event for event in claims.events if event.json["data"]["job_id"] == job_id]
        assert event.routing_key == "localization.complete", event.json
