"""The micro-batch: one run for many jobs, and no harm from one item to another."""

from uuid import uuid4

from tests.support.metrics import value
from tests.support.models import tone
from tests.support.station import Station, publisher

FULL = 32
ONLY_FULL_BATCHES = {"HEIMDALL_EAGER": "false", "HEIMDALL_MAX_WAIT_MS": "60000", "HEIMDALL_MAX_BATCH_SIZE": str(FULL)}


async def test_one_run_serves_a_full_batch(own_station: Station) -> None:
    """Thirty-two jobs that wait together are one micro-batch and one ONNX run."""
    worker = own_station.worker(**ONLY_FULL_BATCHES)
    async with publisher(own_station.amqp_url) as jobs:
        sent = [await jobs.publish(tone(seed)) for seed in range(FULL)]
        answers = [await jobs.reply(correlation_id) for correlation_id in sent]
    assert [answer.code for answer in answers] == [None] * FULL
    assert value(worker, "heimdall_onnx_runs_total", version="1") == 1
    assert value(worker, "heimdall_batch_size_count") == 1
    assert value(worker, "heimdall_batch_size_sum") == FULL


async def test_a_poison_sample_leaves_its_neighbours_alone(own_station: Station) -> None:
    """Of a batch of 32 with one sample the model fails on, 31 have results and one its error."""
    worker = own_station.worker(**ONLY_FULL_BATCHES)
    poison = uuid4().hex
    async with publisher(own_station.amqp_url) as jobs:
        sent = [await jobs.publish(tone(seed)) for seed in range(20)]
        sent.append(await jobs.publish(tone(20, amplitude=1e5), job_id=poison))
        sent += [await jobs.publish(tone(seed)) for seed in range(21, FULL)]
        answers = [await jobs.reply(correlation_id) for correlation_id in sent]
        assert [answer.code for answer in answers].count(None) == FULL - 1
        assert answers[20].code == "inference_failed"
        assert [letter.headers["heimdall-job-id"] for letter in jobs.dead] == [poison]
    # The whole batch once, then both halves down to the culprit: 1 + 2·log2(32).
    assert value(worker, "heimdall_onnx_runs_total", version="1") == 11


async def test_a_lone_job_does_not_wait_for_a_window(own_station: Station) -> None:
    """An eager worker dispatches a lone job at once, however long the window is."""
    own_station.worker(HEIMDALL_MAX_WAIT_MS="600000")
    async with publisher(own_station.amqp_url) as jobs:
        assert (await jobs.locate(tone(1))).code is None
