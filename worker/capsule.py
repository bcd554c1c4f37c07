"""What a dead letter says of the circumstances: when, what input, which model, in whose company, with what versions."""

import platform
import time
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from schemas.time import format_datetime_ns
from worker.job import Job

MAX_MATES: Final = 32
"""Ids of at most 128 characters: headers over 128 KiB would close our own connection."""
_LIBRARIES: Final = ("heimdall-worker", "onnxruntime", "numpy")


def capsule(job: Job, mates: Sequence[str]) -> dict[str, Any]:
    """Headers of a dead letter.

    Args:
        job: that failed.
        mates: ids of the jobs that were delivered to the same micro-batch, itself included or not.
    """
    others = [mate for mate in mates if mate != job.job_id]
    model = job.version.reference() if job.version else {}
    said = {
        "heimdall-failed-at": format_datetime_ns(time.time_ns()),
        "heimdall-input-digest": job.input_digest or None,
        "heimdall-routing-key": job.delivery.message.routing_key,
        "heimdall-model-name": model.get("name"),
        "heimdall-model-digest": model.get("digest"),
        "heimdall-model-alias": model.get("alias"),
        "heimdall-batch-size": len(others) + 1,
        "heimdall-batch-mates": others[:MAX_MATES],
        "heimdall-versions": versions(),
    }
    return {name: value for name, value in said.items() if value is not None}


@cache
def versions() -> str:
    """Of what computes."""
    found = [f"{name} {_version(name)}" for name in _LIBRARIES]
    return ", ".join([*found, f"python {platform.python_version()}"])


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
