"""From raw output rows to the bytes that are stored and sent: positions, ellipses and GeoJSON of a batch at once."""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import numpy as np
import orjson

from schemas import events
from schemas.geo import Point
from schemas.time import format_datetime_ns, parse_datetime_ns
from worker.errors import InferenceFailed, JobError
from worker.geo.ellipse import ErrorEllipse, error_ellipses, principal_axes
from worker.geo.geojson import FixIdentity, feature_collections
from worker.job import Job, Outcome, Sample
from worker.serving.model import ModelVersion
from worker.serving.outputs import Fix, read_outputs

_NS_PER_MS: Final = 1_000_000
# Of a job; an event of one sample of a batch job carries them too.
_JOB_FIELDS: Final = (
    "job_id",
    "session_id",
    "capture_time",
    "timestamp",
    "age_ms",
    "model",
    "model_version",
    "center_frequency_hz",
    "input_digest",
)


def decode_rows(jobs: Sequence[Job]) -> None:
    """Read the rows of raw output as positions; a sample without a valid one gets its error."""
    computed = [sample for job in jobs for sample in job.samples if sample.row is not None and sample.error is None]
    for version, samples in _by_version(computed).items():
        _decode(version, samples)


def encode_results(jobs: Sequence[Job], *, stale_after_s: float) -> None:
    """Give every job without an outcome its outcome: a result where its samples have rows, else its error.

    Args:
        jobs: decoded; samples have a fix or an error.
        stale_after_s: age from which a result is flagged.
    """
    started, now_ns = time.perf_counter(), time.time_ns()
    timestamp = format_datetime_ns(now_ns)
    predictions: dict[Sample, dict[str, Any]] = {}
    located = [sample for job in jobs if job.error is None for sample in job.samples if sample.fix is not None]
    for version, samples in _by_version(located).items():
        predictions |= _predictions(version, samples)
    geometry = time.perf_counter() - started
    for job in jobs:
        job.timings.geometry = geometry
        error = job.error or _fatal(job)
        if error is not None:
            job.outcome = error_outcome(job, error)
        else:
            fields = _job_fields(job, now_ns, timestamp)
            job.outcome = _result_outcome(job, fields, predictions, stale_after_s)


def error_outcome(job: Job, error: JobError, *, storable: bool = True) -> Outcome:
    """The outcome of a job that failed as a whole."""
    problem = error.problem(job.job_id) | {"session_id": job.session_id}
    if job.input_digest:
        problem["input_digest"] = job.input_digest
    return Outcome(
        orjson.dumps(problem), str(error.code), storable=storable and job.job_id is not None, reason=error.detail
    )


def stored_outcome(body: bytes) -> tuple[Outcome, str | None]:
    """An outcome as it was stored, and the digest of the input it answers."""
    document = orjson.loads(body)
    error = document.get("code")
    outcome = Outcome(body, error, fresh=False, reason=document.get("detail", ""))
    return outcome, document.get("input_digest")


def event_bodies(outcome: Outcome) -> Iterator[tuple[str, bytes]]:
    """Routing key and body of the events of an outcome: one per sample."""
    timestamp = format_datetime_ns(time.time_ns())
    document = orjson.loads(outcome.body) if b'"predictions":' in outcome.body else {}
    if outcome.error is not None or "predictions" not in document:
        key = events.FAILED if outcome.error else events.COMPLETE
        yield key, _event(key, timestamp, orjson.Fragment(outcome.body))
        return
    shared = {name: document[name] for name in _JOB_FIELDS}
    for prediction in document["predictions"]:
        if "code" in prediction:
            yield events.FAILED, _event(events.FAILED, timestamp, prediction | {"session_id": shared["session_id"]})
        else:
            yield events.COMPLETE, _event(events.COMPLETE, timestamp, shared | prediction)


def _event(key: str, timestamp: str, data: Any) -> bytes:
    return orjson.dumps({"event": key, "timestamp": timestamp, "data": data})


def _by_version(samples: Iterable[Sample]) -> dict[ModelVersion, list[Sample]]:
    groups: dict[ModelVersion, list[Sample]] = {}
    for sample in samples:
        assert sample.job.version is not None
        groups.setdefault(sample.job.version, []).append(sample)
    return groups


def _fatal(job: Job) -> JobError | None:
    """The error that fails the whole job: of its only sample, of all, or of the first when it asked for that."""
    errors = [sample.error for sample in job.samples if sample.error is not None]
    if errors and (len(errors) == len(job.samples) or not job.delivery.headers.continue_on_error):
        return errors[0]
    return None


def _decode(version: ModelVersion, samples: Sequence[Sample]) -> None:
    rows = [sample.row for sample in samples if sample.row is not None]
    outputs = {name: np.array([row[name] for row in rows]) for name in version.contract.outputs}
    fixes = read_outputs(version.contract, outputs, [s.seats.origin if s.seats else None for s in samples])
    for item, (sample, fault) in enumerate(zip(samples, fixes.faults, strict=True)):
        if fault is None:
            sample.fix = fixes.fix(item)
        else:
            sample.error = InferenceFailed(fault)


def _predictions(version: ModelVersion, samples: Sequence[Sample]) -> dict[Sample, dict[str, Any]]:
    fixes = [sample.fix for sample in samples if sample.fix is not None]
    latitude = np.array([fix.latitude_deg for fix in fixes])
    longitude = np.array([fix.longitude_deg for fix in fixes])
    covariances = np.array([fix.covariance_m2 for fix in fixes])
    axes = principal_axes(covariances)
    ellipses = error_ellipses(axes, [sample.job.delivery.headers.confidences for sample in samples])
    identities = [
        FixIdentity(s.job.job_id or "", s.index, s.job.session_id, s.job.capture_time, version.record.version)
        for s in samples
    ]
    collections = feature_collections(identities, latitude, longitude, ellipses)
    outside = version.admission.outside_area(latitude, longitude)
    shown = zip(fixes, covariances.tolist(), axes.theta_deg.tolist(), ellipses, strict=True)
    return {
        sample: {
            **_fix(*fix),
            "geojson": collection,
            **_receivers(sample),
            "flags": _flags(sample, outside=is_outside),
            "cache_hit": sample.cache_hit,
        }
        for sample, fix, collection, is_outside in zip(samples, shown, collections, outside.tolist(), strict=True)
    }


def _fix(
    fix: Fix, covariance_m2: list[list[float]], theta_deg: float, ellipses: Sequence[ErrorEllipse]
) -> dict[str, Any]:
    wire = [
        {
            "semi_major_m": ellipse.semi_major_m,
            "semi_minor_m": ellipse.semi_minor_m,
            "azimuth_deg": ellipse.azimuth_deg,
            "confidence": ellipse.confidence,
            "area_m2": ellipse.area_m2,
        }
        for ellipse in ellipses
    ]
    return {
        "position": {"latitude": fix.latitude_deg, "longitude": fix.longitude_deg},
        "covariance_m2": covariance_m2,
        "uncertainty": {
            "sigma_x": covariance_m2[0][0] ** 0.5,
            "sigma_y": covariance_m2[1][1] ** 0.5,
            "theta": theta_deg,
            "confidence_interval": ellipses[0].confidence,
        },
        "ellipse": wire[0],
        "ellipses": wire,
        "confidence": fix.confidence,
    }


def _receivers(sample: Sample) -> dict[str, Any]:
    recording, seats = sample.job.recording, sample.seats
    assert recording is not None
    assert seats is not None
    named = recording.receivers
    used = [
        {"id": named[channel].id, "geolocation": _point(named[channel].geolocation)}
        if named
        else {"id": f"channel {channel}", "geolocation": None}
        for channel in seats.occupied[1].tolist()
    ]
    ignored = [{"id": receiver_id, "reason": reason} for receiver_id, reason in seats.ignored]
    return {"receivers_used": used, "receivers_ignored": ignored}


def _point(place: Point) -> dict[str, Any]:
    return {"type": "Point", "coordinates": place.coordinates}


def _flags(sample: Sample, *, outside: bool) -> list[str]:
    few = sample.seats is not None and sample.seats.few
    found = (("few_receivers", few), ("outside_area", outside), ("clipped", sample.clipped))
    return [flag for flag, stands in found if stands]


def _result_outcome(
    job: Job, fields: dict[str, Any], predictions: dict[Sample, dict[str, Any]], stale_after_s: float
) -> Outcome:
    timings = _timings(job)
    measured = {"inference_time_ms": timings["inference"], "timings_ms": timings}
    age_ms = fields["age_ms"]
    stale = ["stale"] if age_ms is not None and age_ms > stale_after_s * 1000 else []
    answers = []
    for sample in job.samples:
        if sample.error is not None:
            answers.append(sample.error.problem(job.job_id) | {"sample": sample.index})
        else:
            predictions[sample]["flags"] += stale
            answers.append(predictions[sample])
    assert job.recording is not None
    if not job.recording.batch:
        return Outcome(_json({**fields, **answers[0], **measured}), None)
    predicted = [a if "code" in a else a | {"sample": s.index} for a, s in zip(answers, job.samples, strict=True)]
    totals = {
        "total_time_ms": timings["total"],
        "samples_per_second": len(predicted) / max(timings["total"] / 1000, 1e-9),
    }
    return Outcome(_json(fields | {"predictions": predicted} | totals | measured), None)


def _json(document: dict[str, Any]) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def _job_fields(job: Job, now_ns: int, timestamp: str) -> dict[str, Any]:
    assert job.version is not None
    assert job.recording is not None
    captured = job.capture_time
    return {
        "job_id": job.job_id,
        "session_id": job.session_id,
        "capture_time": captured,
        "timestamp": timestamp,
        "age_ms": (now_ns - parse_datetime_ns(captured)) / _NS_PER_MS if captured else None,
        "model": job.version.reference(),
        "model_version": job.version.record.version,
        "center_frequency_hz": job.recording.center_frequency_hz,
        "input_digest": job.input_digest,
    }


def _timings(job: Job) -> dict[str, float]:
    seconds = (*job.timings.by_stage(), ("total", time.monotonic() - job.delivery.received))
    return {name: round(1000 * value, 4) for name, value in seconds}
