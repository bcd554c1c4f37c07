"""Real recordings of real receivers through a real worker."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client import HeimdallClient, ReadOptions, load
from schemas.result import LocalizationResult
from tests.support.models import write_model
from tests.support.rfc7946 import assert_rfc7946
from tests.support.station import Station, publisher

ISM_AND_ADSB = [
    ("ism-433/ask.complex", "cf32_le"),
    ("ism-433/fsk.complex", "cf32_le"),
    ("ism-433/esaver.complex16s", "ci8"),
    ("adsb-1090/modes1.cu8", "cu8"),
]
MOST_SAMPLES = 131_072


@pytest.fixture
def any_rate_station(own_station: Station, tmp_path: Path) -> Station:
    """A station whose model takes any rate and any place."""
    model = write_model(tmp_path / "any.onnx", sample_rate=None, area=None)
    own_station.registry.register(model)
    own_station.worker()
    return own_station


def raw_metadata(datatype: str, rate: float) -> dict[str, Any]:
    """Metadata of a raw file that tells neither its rate nor its place."""
    info = {"core:datatype": datatype, "core:sample_rate": rate, "core:version": "1.2.0"}
    return {"global": info, "captures": [{"core:sample_start": 0}], "annotations": []}


@pytest.mark.parametrize(("name", "datatype"), ISM_AND_ADSB)
async def test_raw_recordings(name: str, datatype: str, recordings: Path, any_rate_station: Station) -> None:
    """ISM and ADS-B recordings in cf32, ci8 and cu8 are located with finite, valid answers."""
    frame = {"cf32_le": 8, "ci8": 2, "cu8": 2}[datatype]
    body = (recordings / name).read_bytes()[: frame * MOST_SAMPLES]
    async with publisher(any_rate_station.amqp_url) as jobs:
        answer = await jobs.locate(body[: len(body) // frame * frame], sigmf=raw_metadata(datatype, 2e6))
    result = LocalizationResult.model_validate_json(answer.body)
    assert np.isfinite(result.covariance_m2).all()
    assert_rfc7946(result.geojson)


async def test_the_kiwi_collection(recordings: Path, any_rate_station: Station) -> None:
    """Three receivers' streams of DCF77, cut to their common span, are one job with one answer."""
    loaded = load(recordings / "kiwi-dcf77-2020" / "dcf77.sigmf-collection", ReadOptions())
    async with HeimdallClient(any_rate_station.amqp_url) as client:
        result = await client.locate(loaded.capture, timeout=60)
    assert len(result.receivers_used) == 3
    assert result.center_frequency_hz == pytest.approx(77_500, abs=5_000)
    assert np.isfinite(result.covariance_m2).all()
    assert_rfc7946(result.geojson)


async def test_a_real_valued_recording_is_refused(recordings: Path, any_rate_station: Station) -> None:
    """The SigMF logo, two real channels, gets unsupported_datatype."""
    folder = recordings / "sigmf-logo-real"
    sigmf = json.loads((folder / "sigmf_logo.sigmf-meta").read_text())
    async with publisher(any_rate_station.amqp_url) as jobs:
        answer = await jobs.locate((folder / "sigmf_logo.sigmf-data").read_bytes(), sigmf=sigmf)
    assert answer.code == "unsupported_datatype"
