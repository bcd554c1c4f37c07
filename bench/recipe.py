"""From jobs to answers in straight lines: the arithmetic that the plain script and every peer share with the worker.

The same features, the same session settings and the same content of answers as the worker's, by the worker's own pure
functions. What the worker does beside that is left out: no validation, no limits, no digest of the input, no metrics,
no cache, no swap. Nothing here is held back either: it is what one would write who trusts every job.
"""

import hashlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import onnxruntime as ort
import orjson
from numpy.typing import NDArray

from schemas.events import COMPLETE
from schemas.job import DEFAULT_CONFIDENCE
from schemas.sigmf import Datatype
from schemas.time import format_datetime_ns, parse_datetime_ns
from worker.dsp.datatypes import decode, full_scale_fraction
from worker.dsp.log_mel import LogMel
from worker.geo.ellipse import ErrorEllipse, error_ellipses, principal_axes
from worker.geo.geojson import FixIdentity, feature_collections
from worker.memory import collect_rarely
from worker.serving.contract import METADATA_KEY, ModelContract, Slots
from worker.serving.contract_inputs import LogMelInput, ReceiverMaskInput
from worker.serving.items import TOGETHER_IQ
from worker.serving.outputs import read_outputs
from worker.serving.seating import UNAMBIGUOUS_RECEIVERS, Admission

Tensors = dict[str, NDArray[np.generic]]
Rows = dict[str, NDArray[np.generic]]

_CLIPPED: Final = 0.01
_STALE_MS: Final = 10_000.0
_NS_PER_MS: Final = 1e6


class RawJob(NamedTuple):
    """A job as it lies in the queue.

    Attributes:
        job_id: its message id.
        sigmf: metadata of the recording, JSON.
        body: the dataset.
    """

    job_id: str
    sigmf: str | bytes
    body: bytes


class Answer(NamedTuple):
    """What a job ends with: the result, as stored and replied, and the event around it; JSON."""

    result: bytes
    event: bytes


class Recipe:
    """A model, ready to locate.

    Not for several threads at once: what one call measures and reads, the next overwrites. It sets the garbage
    collector of its process as the worker does.

    Args:
        model_path: an ONNX file with its contract inside, whose inputs are log-mel spectrograms and receiver masks.
        threads: of one ONNX run.
    """

    def __init__(self, model_path: Path, threads: int = 1) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(str(model_path), options, providers=["CPUExecutionProvider"])
        text = self._session.get_modelmeta().custom_metadata_map[METADATA_KEY]
        self.contract = ModelContract.model_validate_json(text)
        self._log_mels = {n: LogMel(i.spec) for n, i in self.contract.inputs.items() if isinstance(i, LogMelInput)}
        self._masks = {n: i for n, i in self.contract.inputs.items() if isinstance(i, ReceiverMaskInput)}
        self._origin = _origin(self.contract)
        self._slots = _slots(self.contract)
        self._admission = Admission(self.contract)
        collect_rarely()
        digest = hashlib.sha256(model_path.read_bytes()).hexdigest()
        self._model = {"name": "heimdall", "version": "1", "digest": f"sha256:{digest}", "alias": "production"}
        self._metadata: list[dict[str, Any]] = []
        self._clipped: list[bool] = []
        self._timings_ms: dict[str, float] = {}

    def locate(self, jobs: Sequence[RawJob]) -> list[Answer]:
        """Everything from jobs to answers, in one batch."""
        return self.answers(jobs, self.infer(self.features(jobs)))

    def features(self, jobs: Sequence[RawJob]) -> Tensors:
        """Input tensors of a batch, one row per job. All jobs have the same number of samples."""
        started = time.perf_counter()
        self._metadata = [orjson.loads(job.sigmf) for job in jobs]
        self._clipped = []
        tensors: Tensors = {}
        first = 0
        for iq, seats in self._handfuls(jobs):
            if not tensors:
                tensors = self._allocate(len(jobs), iq.shape[-1])
            self._fill({name: tensor[first : first + len(iq)] for name, tensor in tensors.items()}, iq, seats)
            first += len(iq)
        self._timings_ms["features"] = 1000 * (time.perf_counter() - started)
        return tensors

    def infer(self, tensors: Tensors) -> Rows:
        """One run of the model: its outputs, one row per job."""
        started = time.perf_counter()
        names = list(self.contract.outputs)
        rows = dict(zip(names, self._session.run(names, tensors), strict=True))
        self._timings_ms["inference"] = 1000 * (time.perf_counter() - started)
        return rows

    def answers(self, jobs: Sequence[RawJob], rows: Rows) -> list[Answer]:
        """Positions, ellipses and GeoJSON of the batch that `features` and `infer` worked on last."""
        started, now_ns = time.perf_counter(), time.time_ns()
        fixes = read_outputs(self.contract, rows, [self._origin] * len(jobs))
        axes = principal_axes(fixes.covariance_m2)
        ellipses = error_ellipses(axes, [DEFAULT_CONFIDENCE] * len(jobs))
        captured = [_captured(metadata) for metadata in self._metadata]
        identities = [FixIdentity(job.job_id, 0, None, when, "1") for job, when in zip(jobs, captured, strict=True)]
        maps = feature_collections(identities, fixes.latitude_deg, fixes.longitude_deg, ellipses)
        outside = self._admission.outside_area(fixes.latitude_deg, fixes.longitude_deg).tolist()
        positions = zip(fixes.latitude_deg.tolist(), fixes.longitude_deg.tolist(), strict=True)
        confidences = [None] * len(jobs) if fixes.confidence is None else fixes.confidence.tolist()
        located = map(_located, positions, fixes.covariance_m2.tolist(), axes.theta_deg.tolist(), ellipses, confidences)
        self._timings_ms["geometry"] = 1000 * (time.perf_counter() - started)
        timestamp = format_datetime_ns(now_ns)
        return [
            _encode(
                self._about(index, job.job_id, captured[index], now_ns, outside[index]) | place | {"geojson": shown},
                timestamp,
            )
            for index, (job, place, shown) in enumerate(zip(jobs, located, maps, strict=True))
        ]

    def _allocate(self, count: int, n_samples: int) -> Tensors:
        tensors: Tensors = {}
        for name, log_mel in self._log_mels.items():
            bound, spec = self.contract.inputs[name], log_mel.spec
            shape = (count, self.contract.capacity, spec.n_mels, spec.frames_in(n_samples))
            tensors[name] = np.full(shape, bound.fill, np.float32)
        for name, mask in self._masks.items():
            tensors[name] = np.full((count, self.contract.capacity), mask.true_means == "absent", mask.dtype)
        return tensors

    def _handfuls(self, jobs: Sequence[RawJob]) -> Iterator[tuple[NDArray[np.complex64], list[int]]]:
        """Decoded jobs (B, R, N) that sit alike, as many at once as stay in the cache, and where they sit."""
        handful: list[NDArray[np.complex64]] = []
        sitting: list[int] = []
        for job, metadata in zip(jobs, self._metadata, strict=True):
            iq, seats = self._decode(job, metadata["global"])
            if handful and (seats != sitting or len(handful) * iq.size >= TOGETHER_IQ):
                yield _stacked(handful), sitting
                handful = []
            handful.append(iq)
            sitting = seats
        yield _stacked(handful), sitting

    def _decode(self, job: RawJob, info: dict[str, Any]) -> tuple[NDArray[np.complex64], list[int]]:
        datatype = Datatype.parse(info["core:datatype"])
        iq = decode(job.body, datatype, info.get("core:num_channels", 1))
        self._clipped.append(full_scale_fraction(iq, datatype) > _CLIPPED)
        receivers = info["heimdall:receivers"]
        if self.contract.level == "dbm":
            gains = [10 ** (receiver["full_scale_dbm"] / 20) for receiver in receivers]
            iq.view(np.float32)[...] *= np.array(gains, np.float32)[:, np.newaxis]
        return iq, [self._slots.get(receiver["id"], channel) for channel, receiver in enumerate(receivers)]

    def _fill(self, tensors: Tensors, iq: NDArray[np.complex64], seats: list[int]) -> None:
        for name, log_mel in self._log_mels.items():
            target: NDArray[Any] = tensors[name]
            if seats == list(range(target.shape[1])):
                log_mel(iq, out=target)
            else:
                target[:, seats] = log_mel(iq)
        for name, mask in self._masks.items():
            tensors[name][:, seats] = mask.true_means == "present"

    def _about(self, index: int, job_id: str, captured: str | None, now_ns: int, outside: bool) -> dict[str, Any]:  # noqa: FBT001
        metadata = self._metadata[index]
        receivers = metadata["global"]["heimdall:receivers"]
        age_ms = (now_ns - parse_datetime_ns(captured)) / _NS_PER_MS if captured else None
        few = len(receivers) < UNAMBIGUOUS_RECEIVERS <= self.contract.capacity
        stale = age_ms is not None and age_ms > _STALE_MS
        flags = {"few_receivers": few, "outside_area": outside, "clipped": self._clipped[index], "stale": stale}
        return {
            "job_id": job_id,
            "session_id": None,
            "capture_time": captured,
            "age_ms": age_ms,
            "model": self._model,
            "model_version": "1",
            "center_frequency_hz": metadata["captures"][0].get("core:frequency") if metadata["captures"] else None,
            "receivers_used": [{"id": r["id"], "geolocation": r["geolocation"]} for r in receivers],
            "receivers_ignored": [],
            "cache_hit": False,
            "flags": [flag for flag, stands in flags.items() if stands],
            "inference_time_ms": self._timings_ms["inference"],
            "timings_ms": self._timings_ms,
        }


def _stacked(handful: Sequence[NDArray[np.complex64]]) -> NDArray[np.complex64]:
    return handful[0][np.newaxis] if len(handful) == 1 else np.stack(handful)  # One alone is not copied.


def _origin(contract: ModelContract) -> tuple[float, float] | None:
    origin = contract.position.origin
    if isinstance(origin, str):
        raise TypeError("a recipe reads absolute positions, or those from a fixed origin; not from a centroid")
    return None if origin is None else (origin.latitude, origin.longitude)


def _slots(contract: ModelContract) -> dict[str, int]:
    if not isinstance(contract.receivers, Slots):
        return {}
    return {slot.id: row for row, slot in enumerate(contract.receivers.slots)}


def _captured(metadata: dict[str, Any]) -> str | None:
    captures = metadata["captures"]
    return captures[0].get("core:datetime") if captures else None


def _located(
    position: tuple[float, float],
    covariance: list[list[float]],
    theta: float,
    ellipses: Sequence[ErrorEllipse],
    confidence: float | None,
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
        "position": {"latitude": position[0], "longitude": position[1]},
        "covariance_m2": covariance,
        "uncertainty": {
            "sigma_x": covariance[0][0] ** 0.5,
            "sigma_y": covariance[1][1] ** 0.5,
            "theta": theta,
            "confidence_interval": ellipses[0].confidence,
        },
        "ellipse": wire[0],
        "ellipses": wire,
        "confidence": confidence,
    }


def _encode(result: dict[str, Any], timestamp: str) -> Answer:
    result["timestamp"] = timestamp
    body = orjson.dumps(result, option=orjson.OPT_SERIALIZE_NUMPY)
    envelope = {"event": COMPLETE, "timestamp": timestamp, "data": orjson.Fragment(body)}
    return Answer(body, orjson.dumps(envelope))
