"""A Celery application whose one task takes batches."""

# mypy: disable-error-code="import-not-found, untyped-decorator, no-any-unimported"
# The library lives in the peer's own environment, not in the one that checks types.

from collections.abc import Sequence
from typing import Any

import redis
from celery import Celery
from celery.signals import worker_ready
from celery_batches import Batches
from kombu import Queue

from bench.peers.celery_batches.confirms import ConfirmedPublisher
from bench.peers.outcomes import EVENT_KEY, PeerSettings, say_ready, store_now
from bench.peers.queue_peers import TASK
from bench.recipe import RawJob, Recipe

settings = PeerSettings.from_environment()
recipe = Recipe(settings.model, settings.threads)
client = redis.Redis.from_url(settings.redis_url)
publisher = ConfirmedPublisher(settings.amqp_url)
app = Celery("peer", broker=settings.amqp_url)
app.conf.update(
    task_queues=[Queue(settings.queue, queue_arguments={"x-queue-type": "quorum"}, no_declare=True)],
    task_default_queue=settings.queue,
    # Quorum queues know no QoS of a whole channel: this has Celery ask for it per consumer.
    worker_detect_quorum_queues=True,
    worker_prefetch_multiplier=settings.prefetch,
    broker_native_delayed_delivery_queue_type="classic",
    accept_content=["pickle"],
    task_acks_late=True,
    task_ignore_result=True,
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
)


FLUSH_INTERVAL_S = 0.05
"""With the window of the others, 5 ms, the timer now and then flushes a part of what is just being received."""


@app.task(name=TASK, base=Batches, flush_every=settings.max_batch, flush_interval=FLUSH_INTERVAL_S, acks_late=True)
def locate(requests: Sequence[Any]) -> None:
    """Compute, store, reply and tell a batch; its messages are acknowledged when this returns."""
    jobs = [RawJob(**request.kwargs) for request in requests]
    answers = recipe.locate(jobs)
    stored = store_now(client, [(job.job_id, a.result) for job, a in zip(jobs, answers, strict=True)])
    for request, result, answer in zip(requests, stored, answers, strict=True):
        publisher.send(result, "", request.reply_to or "", correlation_id=request.correlation_id)
        publisher.send(answer.event, settings.events_exchange, EVENT_KEY)
    publisher.wait()


@worker_ready.connect
def started(**_: Any) -> None:
    """Tell that jobs are taken."""
    say_ready()
