"""Peers that take jobs from the queue themselves."""

import pickle
from collections.abc import Sequence
from typing import Any, Final

from bench.peers.peer import Command, Peer, RunSettings, Wire
from bench.recipe import RawJob

TASK: Final = "locate"
"""Name of the task, where a peer knows its jobs as tasks."""


def as_celery_task(job: RawJob) -> Wire:
    """A job in version 2 of Celery's message protocol, with the recording as a keyword argument.

    Pickled, because Celery's JSON would carry the bytes as base64.
    """
    arguments = {"job_id": job.job_id, "sigmf": job.sigmf, "body": job.body}
    embedded = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    headers: dict[str, Any] = {"lang": "py", "task": TASK, "id": job.job_id, "root_id": job.job_id, "retries": 0}
    properties = {
        "message_id": job.job_id,
        "content_type": "application/x-python-serialize",
        "content_encoding": "binary",
    }
    return Wire(pickle.dumps(((), arguments, embedded), protocol=5), headers, properties)


def as_taskiq_message(job: RawJob) -> Wire:
    """A job as taskiq's own client would publish it."""
    message: dict[str, Any] = {
        "task_id": job.job_id,
        "task_name": TASK,
        "labels": {},
        "labels_types": None,
        "args": [],
        "kwargs": {"job_id": job.job_id, "sigmf": job.sigmf, "body": job.body},
    }
    headers = {"task_id": job.job_id, "task_name": TASK}
    return Wire(pickle.dumps(message, protocol=5), headers, {"message_id": job.job_id})


def _worker(peer: Peer, settings: RunSettings) -> Sequence[Command]:
    argv = (peer.program("python"), "-m", f"{peer.module}.worker")
    return [Command(peer.name, argv, settings.environment())]


def _celery(peer: Peer, settings: RunSettings) -> Sequence[Command]:
    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING")
    argv = (peer.program("celery"), "--app", f"{peer.module}.worker", "worker", "--pool", "solo", "-c", "1", *quiet)
    # It refuses pickles as root: anybody who may publish could run code. Here only the benchmark itself publishes.
    return [Command(peer.name, argv, settings.environment() | {"C_FORCE_ROOT": "1"})]


def _taskiq(peer: Peer, settings: RunSettings) -> Sequence[Command]:
    at_once = str(settings.max_batch)
    limits = ("--workers", "1", "--max-async-tasks", at_once, "--max-prefetch", str(3 * settings.max_batch))
    options = (*limits, "--ack-type", "when_executed", "--no-parse", "--log-level", "WARNING")
    argv = (peer.program("taskiq"), "worker", f"{peer.module}.worker:broker", *options)
    return [Command(peer.name, argv, settings.environment())]


QUEUE_PEERS: Final[Sequence[Peer]] = (
    Peer(
        name="aio_pika_rpc",
        kind="queue",
        start=_worker,
        settings={
            "form": "the RPC server of aio-pika's tutorial: one message after the other from the queue's iterator, "
            "processed, replied through the default exchange, acknowledged by `process()`",
            "prefetch": "four batches, as the worker's: the next message is always there already",
            "publishes": "reply and event are published together and awaited together, one wait instead of two",
            "event loop": "uvloop, as the worker's",
        },
    ),
    Peer(
        name="faststream",
        kind="queue",
        start=_worker,
        settings={
            "form": "RabbitBroker with one subscriber, which publishes reply and event itself and awaits both confirms "
            "together; a returned reply would be published only after the event. Batch subscribers are not offered for "
            "RabbitMQ, so jobs are computed one by one",
            "prefetch": "four batches, on the default channel: handlers of that many messages run at once, "
            "so that waits for confirms overlap",
            "apply_types": "False: no pydantic validation of arguments, which its performance advice switches off",
            "decoder": "custom, straight from the delivery to the job",
            "logger": "None: no log line per message",
            "ack_policy": "NACK_ON_ERROR: acknowledged after the reply is confirmed",
            "event loop": "uvloop",
        },
    ),
    Peer(
        name="celery_batches",
        kind="queue",
        start=_celery,
        encode=as_celery_task,
        settings={
            "form": "Batches task with flush_every = the batch size and flush_interval = 50 ms, with which it drains "
            "faster than with the window of the others",
            "acks_late": "True: acknowledged after the batch's task has ended",
            "worker_prefetch_multiplier": "four batches; its page asks for more than flush_every",
            "pool": "solo: one process computes where it consumes, so no body is pickled to a child",
            "serializer": "pickle: bodies are binary, and JSON would carry them as base64",
            "results": "in Redis under the job's own key, one pipeline per batch; no second copy in the backend's form",
            "confirms": "of a whole batch awaited together on the AMQP channel, "
            "where Celery's own confirm_publish waits for each",
            "gossip, mingle, heartbeat, events": "off, as for one worker that nobody watches",
        },
    ),
    Peer(
        name="taskiq",
        kind="queue",
        start=_taskiq,
        encode=as_taskiq_message,
        settings={
            "form": "AioPikaBroker with one task; the queue exists and is not declared",
            "workers": "1 process, as every peer",
            "max-async-tasks, max-prefetch, qos": "a batch at once and three more waiting, so that waits overlap",
            "ack-type": "when_executed: the task itself stores, replies and tells, so its end is the outcome",
            "serializer": "pickle, one of its own: bodies are binary, and JSON cannot carry them",
            "no-parse": "arguments are not validated by pydantic",
            "result backend": "none: the result is stored under the job's own key by the task",
            "event loop": "uvloop, which it installs where it finds it",
        },
    ),
)
