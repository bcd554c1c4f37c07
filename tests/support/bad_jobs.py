"""One bad job of every kind in the error table that a publisher can cause."""

import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.support.models import metadata, tone

Job = dict[str, Any]


def _not_finite() -> Job:
    samples = np.frombuffer(tone(1), "<c8").copy()
    samples[100] = np.nan
    return {"body": samples.tobytes()}


def _far_receiver() -> Job:
    sigmf = metadata(1)
    place = sigmf["global"]["heimdall:receivers"][0]["geolocation"]
    place["coordinates"] = place["coordinates"][::-1]
    return {"sigmf": sigmf}


BAD_JOBS: dict[str, Callable[[], Job]] = {
    "malformed_envelope": lambda: {"content_type": "text/plain"},
    "malformed_metadata": lambda: {"headers": {"sigmf": '{"global": {}}'}},
    "malformed_iq": lambda: {"body": tone(1)[:-3]},
    "non_finite_iq": _not_finite,
    "too_few_samples": lambda: {"body": tone(1, n=500)},
    "too_large": lambda: {
        "body": json.dumps({"iq_data": [[0.25, 0.5]] * 200_000}).encode(),
        "content_type": "application/json",
    },
    "unsupported_datatype": lambda: {"sigmf": metadata(1, **{"core:datatype": "rf32_le"})},
    "sample_rate_mismatch": lambda: {"sigmf": metadata(1, **{"core:sample_rate": 50e3})},
    "receiver_mismatch": _far_receiver,
    "expired": lambda: {"headers": {"deadline_ms": int(time.time() * 1000) - 1}},
    "inference_failed": lambda: {"body": tone(1, amplitude=1e5)},
}

NOT_DEAD = {"expired"}
"""Answered and acknowledged, without a place in the dead-letter queue."""
