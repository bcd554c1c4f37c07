"""`Stack`: a broker, a Redis and an empty model registry, together."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.local.broker import Broker, rabbitmq
from deploy.local.store import RedisServer, redis


@dataclass(frozen=True)
class Stack:
    """Everything a worker needs.

    Attributes:
        broker: The RabbitMQ.
        store: The Redis.
        directory: A private directory (0700) that lives as long as the stack.
    """

    broker: Broker
    store: RedisServer
    directory: Path

    @classmethod
    @contextmanager
    def running(
        cls,
        *,
        management: bool = False,
        rabbitmq_config: Mapping[str, str] | None = None,
        redis_config: Mapping[str, str] | None = None,
    ) -> "Iterator[Stack]":
        """Start all of it; nothing is left when the block ends.

        Args:
            management: Whether the broker gets its HTTP API.
            rabbitmq_config: Further lines of rabbitmq.conf for a private broker.
            redis_config: Further directives for a private Redis.
        """
        directory = Path(tempfile.mkdtemp(prefix="heimdall-stack-"))
        try:
            with redis(redis_config) as store, rabbitmq(management=management, config=rabbitmq_config) as broker:
                yield cls(broker, store, directory)
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    @property
    def tracking_uri(self) -> str:
        """An MLflow registry in one sqlite file; empty until something registers a model."""
        return f"sqlite:///{self.directory}/mlflow.db"

    def worker_env(self) -> dict[str, str]:
        """The settings that lead a worker to this stack."""
        return {
            "HEIMDALL_AMQP_URL": self.broker.url,
            "HEIMDALL_REDIS_URL": self.store.url,
            "HEIMDALL_MLFLOW_TRACKING_URI": self.tracking_uri,
            "HEIMDALL_RELOAD_JITTER_S": "0",  # One or two workers: nothing to spread.
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
