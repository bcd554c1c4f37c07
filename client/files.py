"""One way in for every file format."""

from dataclasses import replace
from pathlib import Path
from typing import Final

from client.errors import CaptureError
from client.raw_iq import STDIN, load_npy, load_raw
from client.reading import Loaded, ReadOptions
from client.sigmf_collection import load_collection
from client.sigmf_recording import DATA_SUFFIX, META_SUFFIX, load_recording

COLLECTION_SUFFIX: Final = ".sigmf-collection"
ARCHIVE_SUFFIX: Final = ".sigmf"


def load(file: str | Path, options: ReadOptions | None = None) -> Loaded:
    """Read IQ from a file.

    Args:
        file: a SigMF recording (either file) or collection, a `.npy` array, raw IQ, or `-` for raw standard input.
        options: what the file does not say itself.

    Raises:
        CaptureError: what is wrong with it, where, and what would be right.
    """
    path, options = Path(file), options or ReadOptions()
    if str(path) != STDIN and not path.is_file():
        raise CaptureError(f"{path}: {'a folder, not a file' if path.is_dir() else 'no such file'}")
    loaded = _by_suffix(path, options)
    return loaded if options.resample is None else _resampled(loaded, options.resample)


def _by_suffix(path: Path, options: ReadOptions) -> Loaded:
    suffix = path.suffix.lower()
    if suffix in (META_SUFFIX, DATA_SUFFIX):
        return load_recording(path, options)
    if suffix == COLLECTION_SUFFIX:
        return load_collection(path, options)
    if suffix == ".npy":
        return load_npy(path, options)
    if suffix == ARCHIVE_SUFFIX:
        raise CaptureError(f"{path}: a SigMF archive: unpack it first (tar xf {path.name})")
    return load_raw(path, options)


def _resampled(loaded: Loaded, rate: float) -> Loaded:
    if loaded.capture.sample_rate == rate:
        return loaded
    note = f"{loaded.name}: resampled from {loaded.capture.sample_rate:.12g} to {rate:.12g} S/s"
    return replace(loaded, capture=loaded.capture.resampled(rate), notes=(*loaded.notes, note))
