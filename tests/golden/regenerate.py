"""The golden log-mel spectrograms: a signal by formula, and what two specifications make of it.

Run it only when a change of the features is meant, and say in the change why models may see other numbers:

    python -m tests.golden.regenerate
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from worker.dsp.log_mel import LogMel, LogMelSpec

GOLDEN = Path(__file__).with_name("log_mel.npz")

SPECS = {
    "iq_linear": LogMelSpec(
        signal="iq",
        n_fft=128,
        hop=64,
        n_mels=24,
        fmin_hz=-25_000,
        fmax_hz=25_000,
        sample_rate_hz=50_000,
        mel_scale="linear",
        power_scale="1/n_fft",
        normalise="fixed",
        mean=-30.0,
        std=10.0,
        n_frames=20,
        place="centre",
    ),
    "envelope_htk": LogMelSpec(
        signal="envelope",
        sides="one",
        n_fft=256,
        hop=64,
        n_mels=16,
        fmin_hz=0,
        fmax_hz=24_000,
        sample_rate_hz=48_000,
        mel_scale="htk",
        floor_value=1e-9,
        normalise="per_receiver",
        n_frames=40,
        place="centre",
        pad_mode="reflect",
    ),
}


def synthetic_iq() -> npt.NDArray[np.complex64]:
    """Two receivers, 2,000 samples: a chirp at two levels in noise from a multiplicative hash, no random generator."""
    n = np.arange(2000, dtype=np.uint64)
    chirp = np.exp(2j * np.pi * (0.05 + 5e-5 * n) * n)
    rows = []
    for receiver, level in enumerate((0.4, 0.05)):
        noise = [((n + np.uint64(4000 * receiver + 2000 * part)) * np.uint64(2654435761)) % 2**32 for part in (0, 1)]
        noise = [(((code ^ (code >> np.uint64(15))) * np.uint64(2246822519)) % 2**32) / 2**31 - 1 for code in noise]
        rows.append(level * chirp + 0.02 * (noise[0] + 1j * noise[1]))
    return np.array(rows).astype(np.complex64)


def golden_log_mel() -> dict[str, npt.NDArray[np.float32]]:
    """Log-mel (2, n_mels, frames) of the synthetic signal by each specification."""
    return {name: LogMel(spec)(synthetic_iq()) for name, spec in SPECS.items()}


if __name__ == "__main__":
    np.savez_compressed(GOLDEN, **golden_log_mel())
