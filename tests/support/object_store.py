"""A real S3 API on a port of its own."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from deploy.local.ports import PortLease
from deploy.local.process import OwnedProcess

LOGIN = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "eu-south-1"}
READY_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class ObjectStore:
    """A server that speaks S3, and what leads boto3 to it."""

    url: str

    @property
    def env(self) -> dict[str, str]:
        """Environment of whoever uses it."""
        return LOGIN | {"AWS_ENDPOINT_URL_S3": self.url}

    @property
    def client(self) -> Any:
        """A plain client."""
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "eu-south-1"}
        return boto3.client("s3", endpoint_url=self.url, config=Config(retries={"total_max_attempts": 1}), **keys)

    def make_bucket(self, name: str) -> None:
        """An empty bucket."""
        self.client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-south-1"})


@contextmanager
def object_store(folder: Path) -> Iterator[ObjectStore]:
    """Start a server and wait until it answers; its log is in the folder."""
    lease = PortLease.take()
    argv = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(lease.port)]
    process = OwnedProcess("S3", argv, {**os.environ, **LOGIN}, folder / "s3.log")
    store = ObjectStore(f"http://127.0.0.1:{lease.port}")
    try:
        process.start()
        process.wait_ready(lambda: _answers(store), READY_TIMEOUT_S, "a list of buckets")
        yield store
    finally:
        process.stop()
        lease.release()


def _answers(store: ObjectStore) -> bool:
    try:
        store.client.list_buckets()
    except Exception:  # Not yet.
        return False
    return True
