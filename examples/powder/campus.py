"""Everything that training needs of the data set, and who holds out what."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from examples.powder.cells import CELL_M, COARSE_CELL_M, FOLDS, Rows, folds_of
from examples.powder.model_file import Campus
from examples.powder.survey import NOISE, SAMPLES, SITES, Survey, read_noise_floors, read_sites, read_survey
from examples.powder.training import Samples

DIRECTORY: Final = "POWDER_DIR"
DEFAULT_DIRECTORY: Final = Path(__file__).parents[3] / "shared" / "powder"
MODELS: Final = Path(__file__).parents[1] / "models"
FINAL: Final = MODELS / "powder.onnx"
OUTER_SEED: Final = 462_700


@dataclass(frozen=True, slots=True)
class Part:
    """One held-out part of the data: a fold of whole cells."""

    cell_m: float
    fold: int

    @property
    def name(self) -> str:
        """Such as `cells150-fold1`."""
        return f"cells{self.cell_m:.0f}-fold{self.fold + 1}"

    @property
    def model(self) -> Path:
        """The model that never saw this part."""
        return MODELS / "powder-folds" / f"{self.name}.onnx"


PARTS: Final = tuple(Part(cell_m, fold) for cell_m in (CELL_M, COARSE_CELL_M) for fold in range(FOLDS))


def data_directory() -> Path:
    """Where the data set is: `POWDER_DIR`, or `../shared/powder` beside the project."""
    return Path(os.environ.get(DIRECTORY) or DEFAULT_DIRECTORY)


def load_campus(directory: Path) -> tuple[Campus, Survey]:
    """The receivers that stand still, and the samples.

    Raises:
        SurveyError: a file is missing or not what it should be.
    """
    sites = read_sites(directory / SITES)
    ids = tuple(sites)
    places = np.array([sites[name] for name in ids])
    campus = Campus(ids, places[:, 0], places[:, 1], read_noise_floors(directory / NOISE, ids))
    return campus, read_survey(directory / SAMPLES, ids)


def training_samples(campus: Campus, survey: Survey) -> Samples:
    """The samples as a model learns from them."""
    truth_km = campus.to_enu_m(survey.latitude_deg, survey.longitude_deg) / 1e3
    sites_km = campus.to_enu_m(campus.latitude_deg, campus.longitude_deg) / 1e3
    arrays = (survey.power_db, survey.present, truth_km, sites_km)
    return Samples(*(array.astype(np.float32) for array in arrays))


def outer_folds(campus: Campus, survey: Survey, cell_m: float) -> Rows:
    """The fold of each sample; the same file always gives the same folds."""
    truth_m = campus.to_enu_m(survey.latitude_deg, survey.longitude_deg)
    return folds_of(truth_m, cell_m, np.random.default_rng([OUTER_SEED, round(cell_m)]))
