"""The demo model: log-mel spectrograms of all receivers to a position with a full 2-D covariance.

    log_mel → band powers → received level per receiver ─┐
    receiver_mask ───────────────────────────────────────┴→ ensemble of small networks → position, Cholesky factor

The first half is plain radio arithmetic without parameters, so that the networks learn geometry and nothing else. Each
member gives a Gaussian; the answer has the mean and covariance of their mixture.
"""

from itertools import pairwise
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from examples.features import MEAN_DB, N_FFT, N_MELS, STD_DB
from examples.network import Network

# Centres of the bands, Hz: what an FM voice fills, with room for oscillator errors, and where only noise is left.
BAND_CENTRES_HZ: Final = np.linspace(-22_500.0, 22_500.0, N_MELS)
SIGNAL_BAND_HZ: Final = 10_500.0
NOISE_BAND_HZ: Final = 15_000.0
# Σ w² of a periodic Hann window over n_fft: power of a signal to the sum of its |X|²/n_fft over all bins.
WINDOW_ENERGY: Final = 0.375 * N_FFT
# Powers are computed relative to this level: 1e-12 mW is far from where float32 is at its best.
REFERENCE_DBM: Final = -90.0
# Below this share of its noise a signal's level is not measured, only bounded.
LEAST_SNR: Final = 0.03

KM: Final = 1e-3
HIDDEN: Final = 192
MEMBERS: Final = 3
LEVEL_SCALE_DB: Final = 12.0
CENTROID_POWERS: Final = (0.2, 0.4, 0.8)
OUTPUTS: Final = 5
LEAST_SIGMA_KM: Final = 0.02


class BandPowers(nn.Module):
    """Mean power in the signal band and in the noise band, relative to the reference level."""

    def __init__(self) -> None:
        super().__init__()
        centre_hz = torch.tensor(np.abs(BAND_CENTRES_HZ), dtype=torch.float32)
        bands = torch.stack([centre_hz <= SIGNAL_BAND_HZ, centre_hz >= NOISE_BAND_HZ]).float()
        self.bands: Tensor
        self.register_buffer("bands", bands.T / WINDOW_ENERGY)

    def forward(self, log_mel: Tensor) -> Tensor:
        """Normalised log-mel (B, R, mels, frames) to powers (B, R, 2)."""
        decibel = log_mel * STD_DB + (MEAN_DB - REFERENCE_DBM)
        power = torch.exp(decibel * float(np.log(10.0) / 10.0)).mean(dim=-1)
        return torch.matmul(power, self.bands)


def received_level(powers: Tensor) -> Tensor:
    """Level of the signal above the reference, dB, from band powers (…, 2): the noise is subtracted.

    White noise puts the same power into each band, so the noise band tells what the signal band holds of it.
    """
    width = np.array(
        [np.sum(np.abs(BAND_CENTRES_HZ) <= SIGNAL_BAND_HZ), np.sum(np.abs(BAND_CENTRES_HZ) >= NOISE_BAND_HZ)]
    )
    noise = powers[..., 1] * float(width[0] / width[1])
    signal = torch.maximum(powers[..., 0] - noise, LEAST_SNR * noise)
    return 10.0 / float(np.log(10.0)) * torch.log(signal + 1e-9)


class Geometry(nn.Module):
    """Levels and presence of all receivers (B, 2R + 2·centroids) to a Gaussian (B, members, 5), by an ensemble.

    The members are independent networks; batched products run them together.
    """

    def __init__(self, inputs: int) -> None:
        super().__init__()
        widths = [inputs, HIDDEN, HIDDEN, HIDDEN, OUTPUTS]
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(MEMBERS, a, b) * float(np.sqrt((2.0 if b != OUTPUTS else 0.01) / a)))
            for a, b in pairwise(widths)
        )
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(MEMBERS, 1, b)) for b in widths[1:])

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, inputs) to raw outputs (members, B, 5)."""
        x = features.unsqueeze(0)
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.matmul(x, weight) + bias
            x = nn.functional.silu(x) if layer < last else x
        return x


class Locator(nn.Module):
    """Level and presence of each receiver to a position and the Cholesky factor of its covariance, kilometres."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        sites_km = network.site_positions_m[:, :2] * KM
        self.size_km = float(np.sqrt(network.area.area)) * KM / 4.0
        self.sites: Tensor
        self.register_buffer("sites", torch.tensor(sites_km / self.size_km, dtype=torch.float32))
        self.geometry = Geometry(2 * len(network.sites) + 2 * len(CENTROID_POWERS))

    def members(self, level: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Each member's mean (members, B, 2) and Cholesky factor l11, l21, l22 (members, B, 3), km."""
        strongest = torch.where(mask > 0.5, level, torch.full_like(level, -200.0)).amax(dim=1, keepdim=True)
        relative = (level - strongest) * mask
        centroids = [self._centroid(relative, mask, power) for power in CENTROID_POWERS]
        features = torch.cat([level * mask / LEVEL_SCALE_DB, mask, *centroids], dim=1)
        raw = self.geometry(features)
        mean = centroids[1] + raw[..., :2]
        diagonal = nn.functional.softplus(raw[..., 2:4]) + LEAST_SIGMA_KM / self.size_km
        factor = torch.stack([diagonal[..., 0], raw[..., 4], diagonal[..., 1]], dim=-1)
        return mean * self.size_km, factor * self.size_km

    def forward(self, level: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (B, 2) and Cholesky factor (B, 3) of the members' mixture, km."""
        return mixture(*self.members(level, mask))

    def _centroid(self, relative: Tensor, mask: Tensor, power: float) -> Tensor:
        """Mean of the receivers' positions, each weighted by a power of what it received (B, 2)."""
        weight = mask * torch.exp(relative * (power * float(np.log(10.0) / 10.0)))
        return torch.matmul(weight, self.sites) / weight.sum(dim=1, keepdim=True).clamp_min(1e-6)


def mixture(means: Tensor, factors: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and Cholesky factor of an equal mixture of Gaussians (members, B, …): law of total covariance."""
    mean = means.mean(dim=0)
    l11, l21, l22 = factors.unbind(-1)
    east, north = (means - mean).unbind(-1)
    c11 = (l11 * l11 + east * east).mean(dim=0)
    c21 = (l11 * l21 + east * north).mean(dim=0)
    c22 = (l21 * l21 + l22 * l22 + north * north).mean(dim=0)
    first = torch.sqrt(c11)
    below = c21 / first
    # By Cauchy-Schwarz the difference is positive; rounding must not make it zero.
    second = torch.sqrt(torch.clamp_min(c22 - below * below, LEAST_SIGMA_KM**2))
    return mean, torch.stack([first, below, second], dim=-1)


def negative_log_likelihood(mean: Tensor, factor: Tensor, truth: Tensor) -> Tensor:
    """Gaussian negative log-likelihood of truth (…, 2), without its constant (…,); all in one unit."""
    east, north = (truth - mean).unbind(-1)
    l11, l21, l22 = factor.unbind(-1)
    first = east / l11
    second = (north - l21 * first) / l22
    return 0.5 * (first * first + second * second) + torch.log(l11) + torch.log(l22)


class DemoModel(nn.Module):
    """The whole graph: what is exported."""

    def __init__(self, locator: Locator) -> None:
        super().__init__()
        self.band_powers = BandPowers()
        self.locator = locator

    def forward(self, log_mel: Tensor, receiver_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Log-mel (B, R, mels, frames) and mask (B, R) to position (B, 2) and Cholesky factor (B, 3), km."""
        level = received_level(self.band_powers(log_mel))
        position, cholesky = self.locator(level, receiver_mask)
        return position, cholesky
