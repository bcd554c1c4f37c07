"""The client against a real broker and a worker that answers as told."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import aio_pika
import numpy as np
import orjson
import pytest

from client import (
    BadReply,
    Capture,
    CaptureError,
    ErrorCode,
    HeimdallClient,
    LocalizationError,
    LocalizationResult,
    Problem,
    SampleRange,
)
from schemas.job import JobHeaders
from schemas.sigmf import SigmfMetadata
from tests.unit.client.fakes import (
    NAMES,
    FakeWorker,
    batch_result,
    capture,
    fake_worker,
    problem,
    rate_mismatch,
    result,
)


@pytest.fixture
async def worker(amqp_url: str) -> AsyncIterator[FakeWorker]:
    """A worker that locates everything in Torino."""
    async with fake_worker(amqp_url) as running:
        yield running


async def test_result_comes_back(amqp_url: str, worker: FakeWorker) -> None:
    """A capture is answered with its result."""
    async with HeimdallClient(amqp_url) as client:
        located = await client.locate(capture(), session_id="s1", confidence=[0.5, 0.9])
    assert located.position.latitude == 45.044
    assert located.job_id == worker.jobs[0].message_id


async def test_job_is_as_the_wire_says(amqp_url: str, worker: FakeWorker) -> None:
    """Properties, headers, metadata and body follow the wire contract."""
    async with HeimdallClient(amqp_url) as client:
        await client.locate(capture(), job_id="job-1", session_id="s1", confidence=[0.5, 0.9])
    job = worker.jobs[0]
    assert (job.message_id, job.content_type, job.user_id) == ("job-1", "application/octet-stream", _user(amqp_url))
    assert job.expiration is None
    assert (job.reply_to or "").startswith("amq.rabbitmq.reply-to.")
    assert job.headers["session_id"] == "s1"
    assert JobHeaders.model_validate(job.headers).confidences == (0.5, 0.9)
    assert isinstance(job.headers["deadline_ms"], int)
    metadata = SigmfMetadata.model_validate(orjson.loads(str(job.headers["sigmf"])))
    assert [one.id for one in metadata.global_.receivers or []] == [*NAMES]
    assert metadata.capture_time == "2026-01-09T15:00:02.123456789Z"
    assert np.frombuffer(job.body, "<c8").reshape(-1, 2).T.tolist() == capture().array().tolist()


async def test_many_at_once_each_get_their_own(amqp_url: str, worker: FakeWorker) -> None:
    """Two hundred concurrent calls over one connection are not mixed up."""
    async with HeimdallClient(amqp_url) as client:
        calls = [client.locate(capture(), job_id=f"job-{i}", timeout=30) for i in range(200)]
        answers = await asyncio.gather(*calls)
    assert [answer.job_id for answer in answers] == [f"job-{i}" for i in range(200)]


async def test_locate_many_returns_errors_in_place(amqp_url: str, worker: FakeWorker) -> None:
    """One failure among many leaves the others their results, in order."""

    def answer(message: aio_pika.abc.AbstractIncomingMessage) -> LocalizationResult | Problem:
        job_id = message.message_id or ""
        return result(job_id) if message.body[:1] == capture(0.5).body()[:1] else problem(job_id, ErrorCode.INTERNAL)

    worker.answer = answer
    bad = Capture(samples=b"\x01" * 4000, datatype="ci16_le", sample_rate=50e3)
    async with HeimdallClient(amqp_url) as client:
        outcomes = await client.locate_many([capture(0.5), bad, capture(0.5)])
    assert [type(outcome) for outcome in outcomes] == [LocalizationResult, LocalizationError, LocalizationResult]


async def test_problem_is_raised_with_its_code(amqp_url: str, worker: FakeWorker) -> None:
    """An error answer is a LocalizationError that says what to do."""
    worker.answer = lambda message: problem(message.message_id or "", ErrorCode.EXPIRED)
    async with HeimdallClient(amqp_url) as client:
        with pytest.raises(LocalizationError, match="deadline") as caught:
            await client.locate(capture())
    assert caught.value.code is ErrorCode.EXPIRED
    assert caught.value.retriable
    assert "deadline_ms" in caught.value.remedy


async def test_batch_job_names_its_samples(amqp_url: str, worker: FakeWorker) -> None:
    """Windows travel as heimdall:samples, and the answer is a list of predictions and problems."""
    worker.answer = lambda message: batch_result(message.message_id or "", 3)
    windows = [SampleRange(sample_start=start, sample_count=300) for start in (0, 300, 600)]
    several = Capture(samples=np.ones(1000, dtype=np.complex64), sample_rate=50e3, windows=windows)
    async with HeimdallClient(amqp_url) as client:
        answer = await client.locate_batch(several)
        with pytest.raises(CaptureError, match="locate_batch"):
            await client.locate(several)
    assert len(answer.predictions) == 3
    metadata = orjson.loads(str(worker.jobs[0].headers["sigmf"]))
    assert metadata["global"]["heimdall:samples"][1] == {"sample_start": 300, "sample_count": 300}


async def test_resamples_to_the_models_rate_once(amqp_url: str, worker: FakeWorker) -> None:
    """A sample_rate_mismatch that names the rate is followed by one job at that rate, with an id of its own."""

    def answer(message: aio_pika.abc.AbstractIncomingMessage) -> LocalizationResult | Problem:
        job_id = message.message_id or ""
        rate = orjson.loads(str(message.headers["sigmf"]))["global"]["core:sample_rate"]
        return result(job_id) if rate == 48e3 else rate_mismatch(job_id, 48e3)

    worker.answer = answer
    async with HeimdallClient(amqp_url) as client:
        located = await client.locate(capture(), job_id="job", resample=True)
        with pytest.raises(LocalizationError) as caught:
            await client.locate(capture(), job_id="other")
    assert located.job_id == "job.resampled"
    assert len(worker.jobs[1].body) == 2 * 960 * 8
    assert caught.value.code is ErrorCode.SAMPLE_RATE_MISMATCH


async def test_rate_refused_twice_is_an_error(amqp_url: str, worker: FakeWorker) -> None:
    """A worker that refuses its own rate is not asked for ever."""
    worker.answer = lambda message: rate_mismatch(message.message_id or "", 48e3)
    async with HeimdallClient(amqp_url) as client:
        with pytest.raises(LocalizationError):
            await client.locate(capture(), resample=True)
    assert len(worker.jobs) == 2


async def test_foreign_reply_is_no_result(amqp_url: str, worker: FakeWorker) -> None:
    """A reply about another job is refused, not returned."""
    worker.answer = lambda _: result("another")
    async with HeimdallClient(amqp_url) as client:
        with pytest.raises(BadReply, match="another"):
            await client.locate(capture())


def _user(url: str) -> str:
    return urlsplit(url).username or "guest"
