"""IQ samples as bytes and as arrays: SigMF's interleaving and datatypes.

| bytes of R channels | c0[0].i c0[0].q c1[0].i c1[0].q … c0[1].i c0[1].q … |
| array               | (R, N) complex64, full scale = 1                    |
"""

import logging
import re
from typing import Final

import numpy as np
from numpy.typing import NDArray

from client.errors import CaptureError
from schemas.sigmf import Datatype, DatatypeError

logger = logging.getLogger(__name__)

_ANY_DATATYPE: Final = re.compile(r"(?P<kind>[cr])[fiu](?P<bits>64|32|16|8)(?:_[lb]e)?")
_CI16_FULL_SCALE: Final = 32768
SENDABLE: Final = ("cf32_le", "ci16_le")
"""What `encode` writes: exact, or half the bytes."""


def sample_bytes(datatype: str) -> int:
    """Bytes of one sample of one channel, of complex and of real datatypes.

    Raises:
        CaptureError: no SigMF datatype.
    """
    match = _ANY_DATATYPE.fullmatch(datatype)
    if match is None:
        raise CaptureError(f"unknown datatype {datatype[:32]!r}: give a SigMF datatype such as cf32_le, ci16_le or cu8")
    return int(match["bits"]) // 8 * (2 if match["kind"] == "c" else 1)


def decode(body: bytes, datatype: str, channels: int) -> NDArray[np.complex64]:
    """Turn interleaved bytes into an array.

    Args:
        body: whole samples of all channels.
        datatype: complex SigMF datatype.
        channels: R.

    Returns:
        (R, N) complex64; integers scaled to ±1.

    Raises:
        CaptureError: real-valued or unknown datatype.
    """
    try:
        kind = Datatype.parse(datatype)
    except DatatypeError as error:
        raise CaptureError(str(error)) from None
    components = _scale(np.frombuffer(body, kind.numpy_name), kind)
    interleaved = np.ascontiguousarray(components).view(np.complex64).reshape(-1, channels)
    return np.ascontiguousarray(interleaved.T)


def _scale(components: NDArray[np.generic], kind: Datatype) -> NDArray[np.float32]:
    if kind.kind == "f":
        return components.astype(np.float32)
    full_scale = float(2 ** (8 * kind.component_bytes - 1))
    if kind.kind == "i":
        return (components.astype(np.float64) / full_scale).astype(np.float32)
    centre = full_scale - 0.5
    return ((components.astype(np.float64) - centre) / centre).astype(np.float32)


def encode(samples: NDArray[np.complex64], datatype: str) -> bytes:
    """Turn an array into interleaved bytes.

    Args:
        samples: (R, N) complex, full scale = 1.
        datatype: `cf32_le`, or `ci16_le`, which clips beyond full scale and says so.

    Raises:
        CaptureError: another datatype; NaN or infinity, which integers cannot hold.
    """
    interleaved = np.ascontiguousarray(samples.T, dtype="<c8")
    if datatype == "cf32_le":
        return interleaved.tobytes()
    if datatype != "ci16_le":
        raise CaptureError(f"arrays are sent as {' or '.join(SENDABLE)}, not as {datatype!r}")
    return _quantise(interleaved.view("<f4")).tobytes()


def _quantise(components: NDArray[np.float32]) -> NDArray[np.int16]:
    if not np.isfinite(components).all():
        raise CaptureError("the samples hold NaN or infinity, which ci16_le cannot")
    levels = np.rint(components.astype(np.float64) * _CI16_FULL_SCALE)
    clipped = int(np.count_nonzero(np.abs(levels) > _CI16_FULL_SCALE))
    if clipped:
        logger.warning("%d values beyond full scale were clipped for ci16_le; send cf32_le, or scale them", clipped)
    return np.clip(levels, -_CI16_FULL_SCALE, _CI16_FULL_SCALE - 1).astype("<i2")
