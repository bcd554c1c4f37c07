"""Train the model of a network, and write it as ONNX with its contract inside.

    python -m examples.train --network torino

The same seed gives the same model on the same machine. Some ten minutes of two CPU cores are enough for either network;
`requirements/train.txt` says what to install.

Recording every training scene would take hours. A bank of waveforms and noises is recorded once through the same signal
processing that serves, and mixed at the powers of each fresh scene: band power is linear in signal power, noise power
and their cross term, so this is exact up to quantisation.
"""

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from examples.export import export
from examples.features import LOG_MEL
from examples.fm_voice import fm_voice
from examples.model import BandPowers, DemoModel, Locator, negative_log_likelihood, received_level
from examples.model_file import MIN_PRESENT
from examples.network import NETWORKS, Network
from examples.propagation import Scenes, draw_present, draw_scenes, thermal_noise_dbm
from examples.simulator import (
    GAIN_ERROR_SIGMA_DB,
    SAMPLE_RATE_HZ,
    SAMPLES,
    TRANSMITTER_SIGMA_PPM,
    Complex,
    shifted,
    white_noise,
)

MODELS: Final = Path(__file__).parent / "models"
BANK_SIZE: Final = 1_024
BATCH: Final = 2_048
STEPS: Final = 5_000
LEARNING_RATE: Final = 2e-3
WARM_UP_STEPS: Final = 200
CALIBRATION_SCENES: Final = 50_000
# Share of training scenes with any number of receivers absent, so that the model bends and does not break.
SPARSE_SHARE: Final = 0.15


@dataclass(frozen=True, slots=True)
class Bank:
    """Band powers (bank, 2) of waveforms and noises of power 1 mW, and their cross terms."""

    signal: np.ndarray
    noise: np.ndarray
    cross: np.ndarray


def band_powers(iq: Complex) -> np.ndarray:
    """Band powers of recordings (n, samples) through the serving path, relative to the reference level (n, 2)."""
    log_mel = torch.from_numpy(LOG_MEL(iq.astype(np.complex64)))
    return np.asarray(BandPowers()(log_mel).numpy(), np.float64)


def record_bank(network: Network, rng: np.random.Generator) -> Bank:
    """Waveforms with the frequency errors of a network's channel, and noise."""
    sent = fm_voice(BANK_SIZE, SAMPLES, SAMPLE_RATE_HZ, rng)
    offset_hz = TRANSMITTER_SIGMA_PPM * 1e-6 * network.frequency_hz * rng.standard_normal(BANK_SIZE)
    sent = shifted(sent, offset_hz, SAMPLE_RATE_HZ)
    noise = white_noise(sent.shape, rng)
    signal_power, noise_power = band_powers(sent), band_powers(noise)
    return Bank(signal_power, noise_power, band_powers(sent + noise) - signal_power - noise_power)


def heard_levels(bank: Bank, scenes: Scenes, rng: np.random.Generator) -> Tensor:
    """Levels above the reference that the model would measure in recordings of the scenes, dB (n, R)."""
    gain_db = GAIN_ERROR_SIGMA_DB * rng.standard_normal(scenes.received_dbm.shape)
    signal_mw = 10.0 ** (scenes.received_dbm[..., np.newaxis] / 10.0)
    noise_mw = 10.0 ** (thermal_noise_dbm(SAMPLE_RATE_HZ) / 10.0)
    pick = rng.integers(0, BANK_SIZE, scenes.received_dbm.shape)
    powers = signal_mw * bank.signal[pick] + noise_mw * bank.noise[pick]
    powers += np.sqrt(signal_mw * noise_mw) * bank.cross[pick]
    return received_level(torch.from_numpy(powers * 10.0 ** (gain_db[..., np.newaxis] / 10.0))).float()


@dataclass(frozen=True, slots=True)
class Batch:
    """Levels (n, R), presence (n, R) and truth in km (n, 2)."""

    level: Tensor
    mask: Tensor
    truth: Tensor


def draw_batch(network: Network, bank: Bank, count: int, rng: np.random.Generator, sparse: float = 0.0) -> Batch:
    """Fresh scenes as the model hears them.

    Args:
        network: whose receivers hear.
        bank: of waveforms and noises.
        count: number of scenes.
        rng: source of the scenes.
        sparse: share of scenes in which all but three receivers may be absent.
    """
    scenes = draw_scenes(network, count, rng)
    shape = scenes.present.shape
    some = draw_present(shape, len(network.sites) - MIN_PRESENT, rng, complete=0.0)
    present = np.where(rng.random((count, 1)) < sparse, some, scenes.present)
    return Batch(
        heard_levels(bank, scenes, rng),
        torch.from_numpy(present.astype(np.float32)),
        torch.from_numpy(scenes.truth_m.astype(np.float32) / 1e3),
    )


def learning_rate(step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine down to zero, as a share of the peak."""
    if step < WARM_UP_STEPS:
        return (step + 1) / WARM_UP_STEPS
    return 0.5 * (1.0 + math.cos(math.pi * (step - WARM_UP_STEPS) / (steps - WARM_UP_STEPS)))


def fit(network: Network, bank: Bank, steps: int, rng: np.random.Generator) -> Locator:
    """Train every member on the same stream of fresh scenes; no scene is seen twice."""
    locator = Locator(network)
    optimiser = torch.optim.AdamW(locator.parameters(), lr=LEARNING_RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: learning_rate(step, steps))
    started = time.monotonic()
    for step in range(steps):
        batch = draw_batch(network, bank, BATCH, rng, SPARSE_SHARE)
        loss = negative_log_likelihood(*locator.members(batch.level, batch.mask), batch.truth).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(locator.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 500 == 0 or step == steps - 1:
            print(f"step {step}: loss {loss.item():.3f}, {time.monotonic() - started:.0f} s", flush=True)
    return locator.eval()


@torch.no_grad()
def calibrate(locator: Locator, batch: Batch) -> float:
    """Factor on the standard deviations that makes the 90 % ellipse hold 90 % of held-out scenes.

    The squared Mahalanobis distance of a Gaussian in two dimensions stays below -2·ln(1 - p) with probability p.
    """
    mean, factor = locator(batch.level, batch.mask)
    east, north = (batch.truth - mean).unbind(-1)
    l11, l21, l22 = factor.unbind(-1)
    first = east / l11
    squared = first**2 + ((north - l21 * first) / l22) ** 2
    error_km = torch.hypot(east, north)
    print(f"held-out scenes, simulated: median error {error_km.median().item():.2f} km")
    return math.sqrt(torch.quantile(squared, 0.9).item() / (-2.0 * math.log(0.1)))


def train(network: Network, seed: int, steps: int = STEPS) -> tuple[DemoModel, float]:
    """A trained model and the scale of its uncertainty."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)  # The order of sums, and so the model, must not depend on the number of cores.
    torch.use_deterministic_algorithms(True)
    bank_rng, fit_rng, held_out_rng = (
        np.random.default_rng(child) for child in np.random.SeedSequence([0x7124, seed]).spawn(3)
    )
    bank = record_bank(network, bank_rng)
    locator = fit(network, bank, steps, fit_rng)
    scale = calibrate(locator, draw_batch(network, bank, CALIBRATION_SCENES, held_out_rng))
    return DemoModel(locator).eval(), round(scale, 4)


def main() -> None:
    """Train, calibrate and export the model of one network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=sorted(NETWORKS), default="torino")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", type=Path, default=MODELS)
    arguments = parser.parse_args()
    network = NETWORKS[arguments.network]
    model, scale = train(network, arguments.seed, arguments.steps)
    path = export(model, network, scale, arguments.steps * BATCH, arguments.out / f"{network.name}.onnx")
    print(f"wrote {path} (uncertainty scale {scale})")


if __name__ == "__main__":
    main()
