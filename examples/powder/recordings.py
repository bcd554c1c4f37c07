"""Samples of the data set as labelled SigMF recordings, which `heimdall evaluate` takes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from client.evaluation.labels import BLOCK, TRUTH
from examples.powder.cells import CELL_M
from examples.powder.iq import SAMPLES, as_ci16, receive
from examples.powder.model_file import Campus, sigmf_of
from examples.powder.survey import Survey
from examples.powder.training import MIN_PRESENT

SEED: Final = 7_259_895
DESCRIPTION: Final = "Powers, geometry and truth measured (Zenodo 7259895); waveform synthesised."


def write_recordings(survey: Survey, campus: Campus, rows: Sequence[int], directory: Path) -> int:
    """Write one recording per sample, with truth and 150 m cell; the same sample always gives the same bytes.

    Args:
        survey: of samples, its columns as the campus has its receivers.
        campus: the receivers.
        rows: which samples.
        directory: for the recordings.

    Returns:
        How many were written: a sample with fewer receivers than the model takes is left out.
    """
    directory.mkdir(parents=True, exist_ok=True)
    truth_m = campus.to_enu_m(survey.latitude_deg, survey.longitude_deg)
    cells = np.floor(truth_m / CELL_M).astype(int)
    written = 0
    for row in rows:
        present = np.flatnonzero(survey.present[row])
        if present.size >= MIN_PRESENT:
            _write(survey, campus, row, present.tolist(), f"{cells[row, 0]}/{cells[row, 1]}", directory)
            written += 1
    return written


def _write(survey: Survey, campus: Campus, row: int, present: list[int], cell: str, directory: Path) -> None:
    iq = receive(survey.power_db[row, present], campus.noise_db[present], np.random.default_rng([SEED, row]))
    metadata = sigmf_of(campus, present, f"{DESCRIPTION} Recorded {survey.times[row]}, zone not stated.")
    place = [float(survey.longitude_deg[row]), float(survey.latitude_deg[row])]
    metadata["annotations"] = [
        {
            "core:sample_start": 0,
            "core:sample_count": SAMPLES,
            TRUTH: {"type": "Point", "coordinates": place},
            BLOCK: cell,
        }
    ]
    name = f"sample-{row:05d}"
    (directory / f"{name}.sigmf-data").write_bytes(as_ci16(iq))
    (directory / f"{name}.sigmf-meta").write_text(json.dumps(metadata), "utf-8")
