"""The workloads: which recordings the jobs carry, and the model that locates them."""

import json
import struct
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from bench.models import SAMPLE_RATE_HZ, ModelPlan, build
from bench.recipe import RawJob
from examples.network import NORTHWEST
from examples.scenes import EXTENSION

MODELS: Final = Path("out/bench/models")
FULL_SCALE_DBM: Final = -40.0
Datatype = Literal["cf32_le", "ci16_le"]


@dataclass(frozen=True, slots=True)
class Workload:
    """Jobs of one kind.

    Attributes:
        datatype: of the bodies.
        plan: of the model; it says how many receivers and samples a job has.
        drained: jobs that lie in the queue when throughput is measured, of a fast subject.
        title: for people.
    """

    name: str
    datatype: Datatype
    plan: ModelPlan
    drained: int
    title: str

    @property
    def body_bytes(self) -> int:
        """Of one body."""
        return self.plan.receivers * self.plan.n_samples * (8 if self.datatype == "cf32_le" else 4)

    def model(self) -> Path:
        """Its model, written if it is not there."""
        return build(self.plan, MODELS, RawJob("golden", self.sigmf(), self.make_bodies(1, seed=99)[0]))

    def sigmf(self) -> str:
        """Metadata of its recordings, as a header carries it."""
        return json.dumps(_metadata(self))

    def make_bodies(self, count: int, seed: int = 1) -> list[bytes]:
        """Different bodies: a tone at another frequency and level in each, and noise.

        Args:
            count: how many.
            seed: the same seed gives the same bytes.
        """
        rng = np.random.default_rng(seed)
        # One stretch of noise for all, from another place in each: drawing it anew would take longer than the run.
        noise = rng.standard_normal((self.plan.n_samples + count, self.plan.receivers, 2), np.float32) * 0.05
        return [self._body(rng, noise[i : i + self.plan.n_samples]) for i in range(count)]

    def marked(self, body: bytes, number: int) -> bytes:
        """A body that differs from every other: its first sample says the number, at up to a quarter of full scale."""
        low, high = number & 0x1FFF, (number >> 13) & 0x1FFF
        if self.datatype == "cf32_le":
            first = struct.pack("<2f", low / 32_768, high / 32_768)
        else:
            first = struct.pack("<2h", low, high)
        return first + body[len(first) :]

    def _body(self, rng: np.random.Generator, noise: NDArray[np.float32]) -> bytes:
        frequency = rng.uniform(-0.4, 0.4)
        level = rng.uniform(0.05, 0.6, self.plan.receivers)
        phase = rng.uniform(0, 2 * np.pi, self.plan.receivers)
        time = np.arange(self.plan.n_samples)[:, np.newaxis]
        tone = level * np.exp(1j * (2 * np.pi * frequency * time + phase))
        iq = np.stack([tone.real, tone.imag], axis=-1).astype(np.float32) + noise
        if self.datatype == "cf32_le":
            return bytes(iq.tobytes())
        return bytes(np.rint(np.clip(iq, -0.99, 0.99) * 32_768).astype("<i2").tobytes())


def _metadata(workload: Workload) -> dict[str, Any]:
    receivers = [
        {
            "id": site.id,
            "geolocation": {"type": "Point", "coordinates": [site.longitude_deg, site.latitude_deg, site.altitude_m]},
            "full_scale_dbm": FULL_SCALE_DBM,
        }
        for site in NORTHWEST.sites[: workload.plan.receivers]
    ]
    captured = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {
        "global": {
            "core:datatype": workload.datatype,
            "core:sample_rate": SAMPLE_RATE_HZ,
            "core:num_channels": workload.plan.receivers,
            "core:version": "1.2.0",
            "core:extensions": [EXTENSION],
            "heimdall:receivers": receivers,
        },
        "captures": [{"core:sample_start": 0, "core:frequency": NORTHWEST.frequency_hz, "core:datetime": captured}],
        "annotations": [],
    }


WORKLOADS: Final[dict[str, Workload]] = {
    workload.name: workload
    for workload in (
        Workload("tiny", "cf32_le", ModelPlan("tiny", 1, 1_024), 8_000, "1 receiver of 1,024 samples, cf32"),
        Workload(
            "narrow",
            "cf32_le",
            ModelPlan("narrow", 1, 8_192, n_fft=512, hop=128, n_mels=128),
            4_000,
            "1 receiver of 8,192 samples, cf32",
        ),
        Workload("network", "ci16_le", ModelPlan("network", 7, 10_000), 1_600, "7 receivers of 10,000 samples, ci16"),
        Workload(
            "heavy",
            "cf32_le",
            ModelPlan("heavy", 1, 1_024, layers=1, width=4_096),
            4_000,
            "1 receiver of 1,024 samples, cf32, 64 MiB of weights",
        ),
    )
}
