"""The files of the data set: powers with their truth, receivers, and noise floors.

- `single_tx.csv`: a row per sample: power of each receiver in dB, -101 = absent; `tx_x_coord` is the LATITUDE and
  `tx_y_coord` the LONGITUDE of the transmitter, WGS84.
- `location_coordinates.json`: (latitude, longitude) of each receiver as a Python literal; None = it moves.
- `no_tx.json`: samples without a transmitter: noise in the 6 kHz filter.

Powers are relative and not calibrated between receivers. Moving receivers are left out: a slot stands at one place.
"""

import ast
import csv
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

SAMPLES: Final = "single_tx.csv"
SITES: Final = "location_coordinates.json"
NOISE: Final = "no_tx.json"
ABSENT_DB: Final = -101.0
LATITUDE, LONGITUDE, TIME = "tx_x_coord", "tx_y_coord", "timestamp"


class SurveyError(ValueError):
    """A file is not what it should be; the message names it."""


@dataclass(frozen=True)
class Survey:
    """Samples of one transmitter each.

    Attributes:
        times: as recorded, without a time zone (n).
        latitude_deg: of the transmitter (n,).
        longitude_deg: of the transmitter (n,).
        power_db: in a 6 kHz filter; `ABSENT_DB` where the receiver was absent (n, R).
        sha256: of the file.
    """

    times: list[str]
    latitude_deg: Array
    longitude_deg: Array
    power_db: Array
    sha256: str

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Which receivers took part (n, R)."""
        return np.asarray(self.power_db > ABSENT_DB)

    def __len__(self) -> int:
        return len(self.times)


def read_survey(path: Path, receivers: Sequence[str]) -> Survey:
    """Read samples; a receiver without a column is absent throughout, other columns are left out.

    Raises:
        SurveyError: unreadable, or not in the format of `single_tx.csv`.
    """
    try:
        body = path.read_bytes()
        rows = list(csv.DictReader(body.decode().splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        raise SurveyError(f"{path}: {error}") from None
    missing = {LATITUDE, LONGITUDE} - set(rows[0] if rows else ())
    if missing or not set(receivers) & set(rows[0]):
        raise SurveyError(
            f"{path}: it must be a CSV as {SAMPLES} is: columns {TIME}, {LATITUDE}, {LONGITUDE} and one per receiver"
        )
    columns = {name: np.array([_number(path, row, name) for row in rows]) for name in (LATITUDE, LONGITUDE, *receivers)}
    return Survey(
        times=[row.get(TIME) or "" for row in rows],
        latitude_deg=columns[LATITUDE],
        longitude_deg=columns[LONGITUDE],
        power_db=np.column_stack([columns[name] for name in receivers]),
        sha256=hashlib.sha256(body).hexdigest(),
    )


def read_sites(path: Path) -> dict[str, tuple[float, float]]:
    """Latitude and longitude of the receivers that stand still.

    Raises:
        SurveyError: unreadable, or another form.
    """
    try:
        places = ast.literal_eval(path.read_text())
        return {name: (float(place[0]), float(place[1])) for name, place in places.items() if place is not None}
    except (OSError, ValueError, SyntaxError, AttributeError, TypeError) as error:
        raise SurveyError(f"{path}: it must be a literal of receiver: (latitude, longitude): {error}") from None


def read_noise_floors(path: Path, receivers: Sequence[str]) -> Array:
    """Median power without a transmitter, dB (R,); a receiver that was not there takes the median of the others.

    Raises:
        SurveyError: unreadable, or none of the receivers is in it.
    """
    heard: dict[str, list[float]] = {name: [] for name in receivers}
    try:
        for sample in json.loads(path.read_text()).values():
            for power_db, _, _, name in sample["rx_data"]:
                if name in heard:
                    heard[name].append(power_db)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SurveyError(f"{path}: it must hold rx_data of [power, latitude, longitude, receiver]: {error}") from None
    floors = {name: float(np.median(powers)) for name, powers in heard.items() if powers}
    if not floors:
        raise SurveyError(f"{path}: none of the receivers is in it")
    typical = float(np.median(list(floors.values())))
    return np.array([floors.get(name, typical) for name in receivers])


def _number(path: Path, row: dict[str, str], name: str) -> float:
    text = row.get(name)
    if text is None and name not in row:
        return ABSENT_DB
    try:
        value = float(text or "")
    except ValueError:
        raise SurveyError(f"{path}: {row.get(TIME)}: column {name} holds {text!r}, not a number") from None
    if not np.isfinite(value):
        raise SurveyError(f"{path}: {row.get(TIME)}: column {name} holds {text!r}, not a finite number")
    return value
