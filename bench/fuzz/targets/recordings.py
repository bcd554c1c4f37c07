"""Jobs as text: SigMF metadata beside a body, and JSON bodies; read, described, admitted to a model, and decoded."""

import json
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any, Final

import numpy as np
import orjson

from bench.fuzz.documents import recording_contract, slots_contract
from bench.fuzz.mutations import as_json, spoil_bytes, spoil_json
from bench.fuzz.target import REFUSED, TAKEN, Target
from schemas.problems import Problem
from schemas.sigmf import MAX_CHANNELS, MAX_SAMPLES_PER_JOB
from worker.errors import JobError
from worker.reading import read_json, read_sigmf
from worker.recording import Recording, decode_capture
from worker.serving.contract import ModelContract
from worker.serving.seating import Admission

BODY_BYTES: Final = 2 * 3 * 4 * 5 * 7 * 16
"""Of every SigMF job's body: whole samples of most datatypes and numbers of channels."""
_BODY: Final = bytes(range(1, 64)) * (BODY_BYTES // 63 + 1)
_MAX_PROBLEM_BYTES: Final = 16_384
_ADMISSIONS: Final = [Admission(ModelContract.model_validate(make())) for make in (recording_contract, slots_contract)]
_TIMES: Final = (
    "2026-01-01T00:00:00Z",
    "2020-02-29T23:59:59.123456789Z",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31t23:59:59",
)


def check_refusal(error: JobError) -> None:
    """An error of a job can be sent: it fits a message, and is what the wire says of problems."""
    sent = orjson.dumps(error.problem("job-1"))
    assert len(sent) <= _MAX_PROBLEM_BYTES, f"{len(sent)} bytes of problem details"
    Problem.model_validate_json(sent)


def check_recording(recording: Recording) -> None:
    """Whatever was taken has samples to locate, can be described and decoded, and fits a model or is refused."""
    assert 1 <= len(recording.ranges) <= MAX_SAMPLES_PER_JOB
    assert 1 <= recording.channels <= MAX_CHANNELS
    assert len(recording.receivers) in {0, recording.channels}
    assert recording.describe()
    for admission in _ADMISSIONS:
        with suppress(JobError):
            admission.check(recording)
    for index, (_, count) in enumerate(recording.ranges):
        try:
            samples = decode_capture(recording, index).samples
        except JobError as error:
            check_refusal(error)
        else:
            assert samples.shape == (recording.channels, count)
            assert np.isfinite(samples).all()


def _run(read: Callable[[bytes], Recording], data: bytes) -> str:
    try:
        recording = read(data)
    except JobError as error:
        check_refusal(error)
        return REFUSED
    check_recording(recording)
    return TAKEN


def _make(rng: Random, document: Callable[[Random], Any]) -> bytes:
    match rng.randrange(8):
        case 0:
            return json.dumps(document(rng)).encode()
        case 1:
            return spoil_bytes(rng, as_json(rng, document(rng)))
        case _:
            return as_json(rng, spoil_json(rng, document(rng)))


def _receivers(rng: Random, channels: int) -> list[dict[str, Any]]:
    return [
        {
            "id": f"rx{index}",
            "geolocation": {
                "type": "Point",
                "coordinates": [rng.uniform(5, 9), rng.uniform(43, 46), 200.0][: rng.choice((2, 3))],
            },
        }
        | rng.choice(({}, {"time_error_ns": 12.5}, {"full_scale_dbm": -20}))
        for index in range(channels)
    ]


def _metadata(rng: Random) -> dict[str, Any]:
    channels = rng.choice((1, 2, 3, 5))
    info: dict[str, Any] = {
        "core:datatype": rng.choice(("cf32_le", "cf64_be", "ci16_le", "ci8", "cu8", "cu16_be")),
        "core:sample_rate": 48_000.0,
        "core:version": "1.2.0",
        "core:num_channels": channels,
        "core:extensions": [{"name": "heimdall", "version": "1.0.0", "optional": False}],
        "heimdall:receivers": _receivers(rng, channels),
    }
    if rng.random() < 0.3:
        info["heimdall:samples"] = [
            {"sample_start": rng.randrange(10), "sample_count": rng.randrange(1, 10)}
            for _ in range(rng.randrange(1, 5))
        ]
    if rng.random() < 0.3:
        info |= {"core:description": "x", "other:field": {"a": [1, None, True]}}
    capture = {"core:sample_start": 0, "core:frequency": 145.5e6, "core:datetime": rng.choice(_TIMES)}
    return {"global": info, "captures": [capture], "annotations": rng.choice(([], [{"core:sample_start": 0}]))}


def _json_job(rng: Random) -> dict[str, Any]:
    channels = rng.choice((1, 2, 3))
    samples = [_iq(rng, channels) for _ in range(rng.randrange(1, 4))]
    job: dict[str, Any] = {"iq_samples": samples} if rng.random() < 0.3 else {"iq_data": samples[0]}
    if rng.random() < 0.7:
        job |= {"receivers": _receivers(rng, channels), "sample_rate": 48_000, "center_frequency": 145.5e6}
    if rng.random() < 0.3:
        job |= {"session_id": "s-1", "cache_enabled": False}
    return job


def _iq(rng: Random, channels: int) -> list[Any]:
    length = rng.choice((1, 2, 8))
    rows = [[[round(rng.uniform(-1, 1), 3), rng.choice((0, 1, -0.5))] for _ in range(length)] for _ in range(channels)]
    return rows[0] if channels == 1 and rng.random() < 0.5 else rows


SIGMF: Final = Target(
    "sigmf",
    lambda rng: json.dumps(_metadata(rng)).encode(),
    lambda rng: _make(rng, _metadata),
    lambda data: _run(lambda header: read_sigmf(header, _BODY[:BODY_BYTES]), data),
)
JSON: Final = Target(
    "json",
    lambda rng: json.dumps(_json_job(rng)).encode(),
    lambda rng: _make(rng, _json_job),
    lambda data: _run(read_json, data),
)
