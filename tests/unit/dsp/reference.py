"""A second, slow reading of the same definitions: float64 throughout, DFT as a matrix, triangles by interpolation."""

import numpy as np
import numpy.typing as npt

from worker.dsp.log_mel import LogMelSpec

COSINES = {
    "hann": (0.5, -0.5),
    "hamming": (0.54, -0.46),
    "blackman": (0.42, -0.5, 0.08),
    "boxcar": (1.0,),
}


def window(name: str, n_fft: int) -> npt.NDArray[np.float64]:
    """Periodic window, term by term."""
    return sum(a * np.cos(2 * np.pi * k * np.arange(n_fft) / n_fft) for k, a in enumerate(COSINES[name]))


def bins(n_fft: int, sides: str) -> npt.NDArray[np.int64]:
    """Bin numbers in ascending frequency."""
    return np.arange(n_fft // 2 + 1) if sides == "one" else np.arange(n_fft) - n_fft // 2


def stft_power(x: npt.NDArray, n_fft: int, hop: int, window_name: str, sides: str) -> npt.NDArray[np.float64]:
    """Power (bins, frames) of one signal."""
    dft = np.exp(-2j * np.pi * np.outer(bins(n_fft, sides), np.arange(n_fft)) / n_fft) * window(window_name, n_fft)
    starts = range(0, len(x) - n_fft + 1, hop)
    frames = np.array([x[start : start + n_fft] for start in starts]).astype(np.complex128)
    return np.abs(dft @ frames.T) ** 2


def to_mel(hz: float, scale: str) -> float:
    """One frequency on a scale, odd about zero."""
    if scale == "linear":
        return hz
    if hz < 0:
        return -to_mel(-hz, scale)
    if scale == "htk":
        return 2595 * np.log10(1 + hz / 700)
    return 3 * hz / 200 if hz < 1000 else 15 + 27 * np.log(hz / 1000) / np.log(6.4)


def filterbank(spec: LogMelSpec) -> npt.NDArray[np.float64]:
    """Filters (n_mels, bins); corners found by inverting `to_mel` with a dense table."""
    mels = np.linspace(to_mel(spec.fmin_hz, spec.mel_scale), to_mel(spec.fmax_hz, spec.mel_scale), spec.n_mels + 2)
    table_hz = np.linspace(spec.fmin_hz, spec.fmax_hz, 400_001)
    corners = np.interp(mels, [to_mel(hz, spec.mel_scale) for hz in table_hz], table_hz)
    frequencies = bins(spec.n_fft, spec.sides) * spec.sample_rate_hz / spec.n_fft
    rows = [np.interp(frequencies, corners[m : m + 3], [0, 1, 0], 0, 0) for m in range(spec.n_mels)]
    areas = [2 / (corners[m + 2] - corners[m]) if spec.filter_norm == "slaney" else 1.0 for m in range(spec.n_mels)]
    return np.array(rows) * np.array(areas)[:, None]


def log_mel(spec: LogMelSpec, iq: npt.NDArray[np.complex64]) -> npt.NDArray[np.float64]:
    """Log-mel (R, n_mels, frames), every step as the model contract words it; crops and pads with numpy.pad."""
    signals = np.abs(iq.astype(np.complex128)) if spec.signal == "envelope" else iq
    power = np.array([stft_power(x, spec.n_fft, spec.hop, spec.window, spec.sides) for x in signals])
    total = window(spec.window, spec.n_fft).sum()
    power /= {"none": 1, "1/n_fft": spec.n_fft, "1/sum(w)^2": total**2}[spec.power_scale]
    mel = filterbank(spec) @ power
    mel = mel + spec.floor_value if spec.floor == "add" else np.maximum(mel, spec.floor_value)
    logs = 10 * np.log10(mel) if spec.log == "db" else np.log(mel)
    if spec.normalise == "fixed":
        logs = (logs - spec.mean) / spec.std
    elif spec.normalise != "none":
        axes = (0, 1, 2) if spec.normalise == "per_sample" else (1, 2)
        logs = (logs - logs.mean(axes, keepdims=True)) / logs.std(axes, keepdims=True)
    frames, wanted = logs.shape[-1], spec.n_frames or logs.shape[-1]
    if frames >= wanted:
        start = (frames - wanted) // 2 if spec.place == "centre" else 0
        return logs[..., start : start + wanted]
    left = (wanted - frames) // 2 if spec.place == "centre" else 0
    mode = {"zeros": "constant"}.get(spec.pad_mode, spec.pad_mode)
    return np.pad(logs, ((0, 0), (0, 0), (left, wanted - frames - left)), mode)
