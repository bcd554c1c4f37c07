"""Short-time Fourier transform: signals to power per frequency bin and frame.

Frame k holds samples k·hop … k·hop + n_fft - 1: no centring, no padding, and a tail shorter than a frame is left out
(librosa's `center=False`). Everything is computed in single precision.
"""

from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import scipy.fft

Sides = Literal["one", "two"]
Boundary = Literal["none", "zeros"]
Window = Literal["hann", "hamming", "blackman", "boxcar"]

# Cosine sums: w[n] = Σ (-1)^k · a_k · cos(2πkn/N). Source: F. J. Harris, "On the use of windows for harmonic analysis
# with the discrete Fourier transform", Proc. IEEE 66 (1978); coefficients as in scipy.signal.windows.
_COSINE_SUM: Final[dict[Window, tuple[float, ...]]] = {
    "hann": (0.5, 0.5),
    "hamming": (0.54, 0.46),
    "blackman": (0.42, 0.5, 0.08),
    "boxcar": (1.0,),
}


def periodic_window(window: Window, n_fft: int) -> npt.NDArray[np.float64]:
    """A periodic (DFT-even) window, float64 (n_fft,): N + 1 symmetric points without the last."""
    phase = 2 * np.pi * np.arange(n_fft) / n_fft
    terms = [(-1) ** k * a * np.cos(k * phase) for k, a in enumerate(_COSINE_SUM[window])]
    samples: npt.NDArray[np.float64] = np.sum(terms, axis=0, dtype=np.float64)
    return samples


def transform_window(window: Window, n_fft: int, sides: Sides) -> npt.NDArray[Any]:
    """A periodic window that also puts the bins of a DFT in ascending order of frequency, (n_fft,).

    On two sides that is a factor e^(2πi·n·h/N) with h = N//2, which shifts the spectrum by h bins: a sign that
    alternates for even N. Without it neighbouring bins about 0 Hz would lie at opposite ends.

    Returns:
        float32, or complex64 for odd `n_fft` on two sides.
    """
    weights: npt.NDArray[Any] = periodic_window(window, n_fft)
    n = np.arange(n_fft)
    if sides == "two":
        weights = weights * (1 - 2 * (n % 2) if n_fft % 2 == 0 else np.exp(2j * np.pi * (n_fft // 2) * n / n_fft))
    return weights.astype("c8" if np.iscomplexobj(weights) else "f4")


def n_bins(n_fft: int, sides: Sides) -> int:
    """Frequency bins of a frame: 0 … fs/2, or all n_fft."""
    return n_fft if sides == "two" else n_fft // 2 + 1


def extension(n_samples: int, n_fft: int, hop: int) -> tuple[int, int]:
    """Zeros to put before and after a signal so that frame k is centred on sample k·hop and no tail is left out.

    Half a frame on either side, then what completes the last hop: scipy.signal.stft's `boundary` and `padded`.
    """
    half = n_fft // 2
    return half, half + -(n_samples + 2 * half - n_fft) % hop


def frames_of(x: npt.NDArray[Any], n_fft: int, hop: int) -> npt.NDArray[Any]:
    """Overlapping frames of a signal, without copying.

    Args:
        x: (…, N).
        n_fft: samples of a frame.
        hop: samples from one frame to the next.

    Returns:
        Read-only view (…, 1 + (N - n_fft)//hop, n_fft).

    Raises:
        ValueError: fewer than n_fft samples.
    """
    if x.shape[-1] < n_fft:
        raise ValueError(f"{x.shape[-1]} samples are fewer than the {n_fft} of one frame (n_fft)")
    signal = np.ascontiguousarray(x)
    count = 1 + (signal.shape[-1] - n_fft) // hop
    step = signal.strides[-1]
    # What sliding_window_view does in fifteen steps, which take longer than the transforms of a short recording.
    frames: npt.NDArray[Any] = np.ndarray(
        (*signal.shape[:-1], count, n_fft), signal.dtype, signal, 0, (*signal.strides[:-1], hop * step, step)
    )
    frames.flags.writeable = False
    return frames


def frame_power(
    frames: npt.NDArray[Any], window: npt.NDArray[Any], sides: Sides, power: npt.NDArray[np.float32]
) -> None:
    """|DFT(window · frame)|² of each frame, bins in ascending order of frequency.

    Args:
        frames: complex64 or float32 (…, frames, n_fft).
        window: of `transform_window`, for the same sides.
        sides: `one` (real frames only) keeps 0 … fs/2.
        power: float32 (…, frames, bins), overwritten with the result.
    """
    windowed = frames * window
    spectrum = (
        scipy.fft.rfft(windowed, axis=-1, overwrite_x=True)
        if sides == "one"
        else scipy.fft.fft(windowed, axis=-1, overwrite_x=True)
    )
    np.abs(spectrum, out=power)  # One vectorised pass, where re² + im² takes strided ones.
    np.square(power, out=power)
