"""The model card: what the model is, what it was trained on, how well it does, and where it ends."""

from dataclasses import dataclass
from typing import Any, Final

from examples import propagation as physics
from examples import simulator
from examples.network import Network

CONFIDENCES: Final = (0.39, 0.5, 0.9, 0.95)
LICENCE: Final = "Apache-2.0"

_LIMITS: Final = {
    "torino": (
        "Receivers stand about 9 km apart. Shadowing of 4 dB changes an estimated distance by a factor of 1.5;\n"
        "  together sixteen receivers bring that down to about a quarter of their spacing."
    ),
    "northwest": (
        "Seven receivers serve 13,600 km², most of them about 60 km apart, so few transmitters are near one.\n"
        "  Power alone cannot do better at that spacing than the bound above, whatever the model; arrival times could."
    ),
}


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures on fresh simulated scenes; distances in metres, coverage by confidence."""

    scenes: int
    seed: int
    median_error_m: float
    p90_error_m: float
    rms_error_m: float
    bound_median_m: float
    bound_rms_m: float
    ratio_interval: tuple[float, float]
    coverage: dict[float, float]

    @property
    def ratio(self) -> float:
        """Median error over the bound's."""
        return self.median_error_m / self.bound_median_m


def contract_card(network: Network, figures: Figures, training_scenes: int) -> dict[str, Any]:
    """The free fields of the contract: what `/model/info` shows."""
    return {
        "title": f"Heimdall demo model, network {network.name}",
        "summary": f"{network.title}; position from received powers, simulated data only.",
        "data": "simulated",
        "licence": LICENCE,
        "training_samples": training_scenes,
        "accuracy_m": round(figures.median_error_m, 1),
        "evaluation": {
            "data": "simulated",
            "scenes": figures.scenes,
            "median_error_m": round(figures.median_error_m, 1),
            "mmse_median_m": round(figures.bound_median_m, 1),
            "ratio_to_mmse": round(figures.ratio, 3),
            "coverage": {f"{level:g}": round(share, 4) for level, share in figures.coverage.items()},
        },
    }


def one_line(network: Network, figures: Figures) -> str:
    """The figures, for a terminal."""
    covered = " ".join(f"{level:.0%}: {share:.3f}" for level, share in figures.coverage.items())
    low, high = figures.ratio_interval
    return (
        f"simulated, {network.name}, {figures.scenes} scenes: median {figures.median_error_m / 1e3:.2f} km, "
        f"{figures.ratio:.3f} x MMSE ({low:.3f}-{high:.3f}), coverage {covered}"
    )


def markdown(network: Network, figures: Figures, training_scenes: int, size_bytes: int) -> str:
    """The card as a page."""
    sections = [
        _head(network, training_scenes, size_bytes),
        _data(network),
        _accuracy(figures),
        _limits(network),
        _again(network),
    ]
    return "\n\n".join(sections) + "\n"


def _head(network: Network, training_scenes: int, size_bytes: int) -> str:
    return f"""# Demo model `{network.name}`

{network.title}; one transmitter at {network.frequency_hz / 1e6:g} MHz. From IQ of all receivers to a position with a
full 2-D covariance. **All data and all figures on this page are simulated.**

| | |
|---|---|
| file | `{network.name}.onnx`, {size_bytes / 1e6:.1f} MB, contract and golden vectors inside |
| input | log-mel spectrograms of {len(network.sites)} receivers at their level in dBm, and which are present |
| output | east and north of {network.origin[0]} N, {network.origin[1]} E; Cholesky factor of the covariance |
| model | level of each receiver by radio arithmetic, then three small networks; their mixture's mean and covariance |
| training | {training_scenes:,} fresh scenes, Gaussian negative log-likelihood, no scene seen twice |
| calibration | one factor on the standard deviations, from the 90 % quantile of held-out scenes |
| licence | {LICENCE} |"""


def _data(network: Network) -> str:
    rows = "\n".join(f"| {effect} | {model} |" for effect, model in _effects().items())
    return f"""## Data: the simulator

Transmitters are uniform over the receivers' convex hull and {network.margin_m / 1e3:g} km round it. Half of the scenes
lack one to {network.max_missing} receivers.

| effect | model |
|---|---|
{rows}"""


def _effects() -> dict[str, str]:
    return {
        "transmitter": f"{physics.TRANSMITTED_DBM:g} dBm ± {physics.TRANSMITTED_SIGMA_DB:g} dB (1 sigma), "
        "narrow-band FM, voice-like, 2.5 or 5 kHz deviation",
        "path loss": f"free space to 1 km, then {10 * physics.PATH_LOSS_EXPONENT:g} dB per decade "
        f"(exponent {physics.PATH_LOSS_EXPONENT:g})",
        "shadowing": f"log-normal, {physics.SHADOWING_SIGMA_DB:g} dB, independent per receiver",
        "noise": f"thermal, kTB at {physics.NOISE_TEMPERATURE_K:g} K and {physics.NOISE_FIGURE_DB:g} dB noise figure",
        "delay": "distance over the speed of light, fractions of a sample and carrier phase included",
        "clocks": f"{simulator.CLOCK_SIGMA_S * 1e9:g} ns; oscillators {simulator.RECEIVER_SIGMA_PPM:g} ppm (receiver) "
        f"and {simulator.TRANSMITTER_SIGMA_PPM:g} ppm (transmitter)",
        "gain": f"automatic in {simulator.GAIN_STEP_DB:g} dB steps, stated as `full_scale_dbm`; "
        f"{simulator.GAIN_ERROR_SIGMA_DB:g} dB unknown error",
        "recording": f"{simulator.SAMPLES:,} samples at {simulator.SAMPLE_RATE_HZ / 1e3:g} kHz, 16 or 8 bits",
    }


def _accuracy(figures: Figures) -> str:
    rows = "\n".join(
        f"| {level:.0%} | {share:.1%} ± {196 * (share * (1 - share) / figures.scenes) ** 0.5:.1f} |"
        for level, share in figures.coverage.items()
    )
    low, high = figures.ratio_interval
    return f"""## Accuracy (simulated)

On {figures.scenes:,} fresh scenes (seed {figures.seed}), every sample of IQ simulated, through the worker's own
preprocessing and decoding. The bound is the posterior mean on a grid that knows the true received powers.

| error, km | model | bound |
|---|---|---|
| median | {figures.median_error_m / 1e3:.2f} | {figures.bound_median_m / 1e3:.2f} |
| rms | {figures.rms_error_m / 1e3:.2f} | {figures.bound_rms_m / 1e3:.2f} |
| 90th percentile | {figures.p90_error_m / 1e3:.2f} | |

The median is {figures.ratio:.3f} times the bound's (95 % interval {low:.3f} to {high:.3f}). What no model can beat is
the bound's mean square; a median may fall a little below its own.

| ellipse at | holds the truth (95 % interval) |
|---|---|
{rows}"""


def _limits(network: Network) -> str:
    return f"""## Limits

- {_LIMITS[network.name]}
- The ellipses are Gaussian and the posterior is not: the scale is set at 90 %, others hold a little more or less.
- Nothing here was learned from real recordings. Terrain, antennas, interference and several transmitters at once are
  not simulated; shadowing of neighbouring receivers is independent, which it is not outdoors.
- It knows these receivers at these places only, and its answer means nothing outside its area.
- It takes three receivers or more; it was trained on that few, but its figures are for the scenes described above."""


def _again(network: Network) -> str:
    return f"""## Make it again

```
pip install -r requirements/train.txt
python -m examples.train --network {network.name}
python -m examples.evaluate_model --network {network.name}
```"""
