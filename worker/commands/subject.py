"""A model with its contract, ready to be tried: recordings in, fixes out, as a worker would compute them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.commands.trials import Trial
from worker.errors import JobError
from worker.recording import Recording, decode_capture
from worker.serving.contract import ModelContract
from worker.serving.inputs import FeaturePlan, Tensors
from worker.serving.items import Item
from worker.serving.outputs import Fixes, read_outputs
from worker.serving.seating import Admission
from worker.serving.session import OnnxSession

Outputs = dict[str, NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class Batch:
    """Items that run together.

    Attributes:
        labels: of the items, for the report.
        tensors: in canonical axis order.
        origins: of relative positions, per item.
    """

    labels: tuple[str, ...]
    tensors: Tensors
    origins: tuple[tuple[float, float] | None, ...]

    def part(self, rows: Sequence[int]) -> "Batch":
        """Some of the items."""
        tensors = {name: tensor[list(rows)] for name, tensor in self.tensors.items()}
        return Batch(tuple(self.labels[row] for row in rows), tensors, tuple(self.origins[row] for row in rows))

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is tried."""

    contract: ModelContract
    session: OnnxSession
    plan: FeaturePlan
    admission: Admission

    def item(self, recording: Recording) -> Item:
        """A recording as far as its receivers have their seats.

        Raises:
            JobError: a job with this recording would be refused.
        """
        self.admission.check(recording)
        capture = decode_capture(recording, 0, self.contract.level)
        seats = self.admission.seat(capture.receivers, recording.channels, lambda: self.plan.powers(capture))
        return Item(capture, seats)

    def batch(self, recordings: Sequence[Trial]) -> tuple[Batch, list[tuple[str, JobError]]]:
        """Features of recordings of one length; those that would be refused are named with the refusal."""
        items, refused = [], []
        for trial in recordings:
            try:
                items.append((trial.label, self.item(trial.recording)))
            except JobError as error:
                refused.append((trial.label, error))
        tensors = self.plan.allocate(len(items), self.contract.required_samples)
        computed = []
        for row, (label, item) in enumerate(items):
            try:
                self.plan.fill(tensors, row, item)
                computed.append(row)
            except JobError as error:
                refused.append((label, error))
        labels, origins = tuple(label for label, _ in items), tuple(item.seats.origin for _, item in items)
        return Batch(labels, tensors, origins).part(computed), refused

    def run(self, batch: Batch) -> tuple[Outputs, Fixes]:
        """Run a batch and read its outputs.

        Raises:
            RuntimeError: the graph failed.
            ValueError: the outputs are no positions.
        """
        outputs = self.session.run(self.contract.outputs, self.plan.feed(batch.tensors))
        try:
            return outputs, read_outputs(self.contract, outputs, batch.origins)
        except (ValueError, IndexError) as error:
            raise ValueError(f"{_shapes(outputs)} cannot be read for {len(batch)} items: {error}") from error


def _shapes(outputs: Outputs) -> str:
    return ", ".join(f"{name} {list(values.shape)}" for name, values in outputs.items())


def metres(value: float) -> str:
    """A length for people: `12 km`, `340 m`, `0.2 mm`."""
    for unit, size in (("km", 1e3), ("m", 1.0), ("cm", 1e-2)):
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-3:.2g} mm"


Figures = dict[str, Any]
