"""Model contracts: read, and everything computed of one that needs no graph."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final, cast

from bench.fuzz.documents import recording_contract, slots_contract
from bench.fuzz.mutations import as_json, spoil_bytes, spoil_json
from bench.fuzz.target import REFUSED, TAKEN, Target
from worker.errors import ModelRejected
from worker.serving.contract import METADATA_KEY, ModelContract, slot_receivers
from worker.serving.contract_inputs import LogMelInput
from worker.serving.inputs import FeaturePlan
from worker.serving.loading import read_contract
from worker.serving.seating import Admission
from worker.serving.session import OnnxSession

_NOWHERE: Final = Path("/nonexistent")
_MAX_FILTERS: Final = 300_000
"""Filterbanks with more weights are left to the child that proves a version under limits of time and memory."""


@dataclass
class _Graph:
    """Stands for a session in the one thing that is asked of it here: the metadata inside the file."""

    metadata: dict[str, str] = field(default_factory=dict)


def run(data: bytes) -> str:
    """Read the contract as it is read from a model file, then plan its features and its rules on jobs."""
    graph = _Graph({METADATA_KEY: data.decode(errors="replace")})
    try:
        contract, _ = read_contract(_NOWHERE, cast("OnnxSession", graph))
    except ModelRejected:
        return REFUSED
    assert contract.capacity >= contract.receivers.min_present
    assert contract.required_samples >= 1
    assert contract.outputs
    assert len(slot_receivers(contract)) in {0, contract.capacity}
    assert contract.needs_positions in {True, False}
    assert contract.needs_center_frequency in {True, False}
    return _plan(contract)


def _plan(contract: ModelContract) -> str:
    try:
        Admission(contract)
        if _filters(contract) <= _MAX_FILTERS:
            FeaturePlan(contract)
    except ValueError:  # What `load_version` makes a rejection of.
        return REFUSED
    return TAKEN


def _filters(contract: ModelContract) -> int:
    return sum(bound.n_fft * bound.n_mels for bound in contract.inputs.values() if isinstance(bound, LogMelInput))


def _document(rng: Random) -> dict[str, Any]:
    return rng.choice((recording_contract, slots_contract))(rng)


def _make(rng: Random) -> bytes:
    match rng.randrange(8):
        case 0:
            return json.dumps(_document(rng)).encode()
        case 1:
            return spoil_bytes(rng, as_json(rng, _document(rng)))
        case _:
            return as_json(rng, spoil_json(rng, _document(rng)))


TARGET: Final = Target("contract", lambda rng: json.dumps(_document(rng)).encode(), _make, run)
