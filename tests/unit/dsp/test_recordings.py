from pathlib import Path

import numpy as np
import pytest

from schemas.sigmf import Datatype
from worker.dsp.datatypes import decode, full_scale_fraction
from worker.dsp.log_mel import LogMel, LogMelSpec
from worker.dsp.receiver_features import receiver_features

RECORDINGS = Path(__file__).parents[4] / "shared" / "iq"
CASES = {
    "ism-433/ask.complex": "cf32_le",
    "ism-433/fsk.complex": "cf32_le",
    "ism-433/esaver.complex16s": "ci8",
    "adsb-1090/modes1.cu8": "cu8",
    "kiwi-dcf77-2020/dcf77_JO51xl.sigmf-data": "ci16_le",
}


def samples_of(name: str) -> tuple[np.ndarray, Datatype]:
    """A real recording, or a skip that says where it was looked for."""
    path = RECORDINGS / name
    if not path.exists():
        pytest.skip(f"real recording absent: {path}")
    datatype = Datatype.parse(CASES[name])
    return decode(path.read_bytes(), datatype, 1), datatype


@pytest.mark.parametrize("name", CASES)
def test_real_recordings_give_finite_features(name):
    """Off-air signals of every common datatype decode within full scale, and all features of them are finite."""
    iq, datatype = samples_of(name)
    path = RECORDINGS / name
    assert iq.shape == (1, path.stat().st_size // datatype.sample_bytes)
    assert 0 < np.abs(iq.view(np.float32)).max() <= 1.5
    assert 0 <= full_scale_fraction(iq, datatype) < 0.2
    spec = LogMelSpec(
        signal="iq", n_fft=256, hop=128, n_mels=32, fmin_hz=-0.5, fmax_hz=0.5, sample_rate_hz=1.0, mel_scale="linear"
    )
    levels = LogMel(spec)(iq)
    assert np.isfinite(levels).all()
    assert levels.std() > 1
    assert np.isfinite(receiver_features(iq, 1.0).snr_db).all()


def test_dcf77_stands_at_the_centre_of_the_kiwi_recording():
    """The carrier of the 77.5 kHz time signal is found within 20 Hz of the tuned frequency."""
    iq, _ = samples_of("kiwi-dcf77-2020/dcf77_JO51xl.sigmf-data")
    features = receiver_features(iq[:, :120_000], 12_001.0256)
    assert abs(features.freq_offset_hz[0]) < 20
    assert features.snr_db[0] > 15


def test_adsb_pulses_stand_out_of_the_noise():
    """Mode S pulses of the RTL-SDR recording reach many times its median magnitude: the offset of cu8 is removed."""
    iq, _ = samples_of("adsb-1090/modes1.cu8")
    magnitude = np.abs(iq[0])
    assert magnitude.max() > 10 * np.median(magnitude)
    assert abs(iq.mean()) < 0.02
