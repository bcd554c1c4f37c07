"""Fixed lengths: crop or pad the last axis, for frames of a spectrogram and samples of raw IQ alike."""

from typing import Final, Literal, TypeVar

import numpy as np
import numpy.typing as npt

Place = Literal["start", "centre"]
PadMode = Literal["zeros", "reflect", "edge"]

_Scalar = TypeVar("_Scalar", bound=np.generic)
_NUMPY_MODE: Final[dict[PadMode, Literal["constant", "reflect", "edge"]]] = {
    "zeros": "constant",
    "reflect": "reflect",
    "edge": "edge",
}


def kept(available: int, length: int, place: Place) -> slice:
    """Which of `available` elements a crop to `length` keeps: the first ones, or those about the centre.

    When the surplus is odd, the extra element is dropped at the end. Nothing is dropped if there is no surplus.
    """
    surplus = max(available - length, 0)
    first = surplus // 2 if place == "centre" else 0
    return slice(first, first + min(available, length))


def crop_or_pad(x: npt.NDArray[_Scalar], length: int, place: Place, pad_mode: PadMode) -> npt.NDArray[_Scalar]:
    """Bring the last axis to a length.

    `start` keeps the first elements and pads at the end; `centre` crops and pads both ends alike, with the odd element
    at the end. `reflect` mirrors without repeating the border (numpy.pad), as often as the length needs.

    Args:
        x: any dtype (…, available); at least one element along the last axis unless `pad_mode` is `zeros`.
        length: wanted, 1 or more.
        place: where to crop and pad.
        pad_mode: what to pad with.

    Returns:
        (…, length), the dtype of `x`; a view of it when nothing is padded.

    Raises:
        ValueError: `length` below 1, or nothing to reflect or repeat.
    """
    if length < 1:
        raise ValueError(f"length must be 1 or more, not {length}")
    available = x.shape[-1]
    if available >= length:
        return x[..., kept(available, length, place)]
    before = (length - available) // 2 if place == "centre" else 0
    widths = [(0, 0)] * (x.ndim - 1) + [(before, length - available - before)]
    return np.pad(x, widths, mode=_NUMPY_MODE[pad_mode])
