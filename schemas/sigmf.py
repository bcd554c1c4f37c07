"""SigMF as it travels: the datatypes, and the metadata of a job.

Source of the rules: the SigMF specification 1.2 (https://sigmf.org), sections "Dataset Format", "Global Object",
"Captures Array", and the extension mechanism. The fields `heimdall:*` are documented in heimdall.sigmf-ext.md.
"""

import re
from dataclasses import dataclass
from typing import Final, Literal

_DATATYPE: Final = re.compile(r"^(?P<kind>[cr])(?P<number>f64|f32|i32|i16|u32|u16|i8|u8)(?:_(?P<endian>le|be))?$")


class DatatypeError(ValueError):
    """Not a datatype that this wire takes; the message says which would be."""


@dataclass(frozen=True, slots=True)
class Datatype:
    """A complex SigMF datatype such as `ci16_le`.

    Attributes:
        name: as written in `core:datatype`.
        kind: of one component: `f` floating point, `i` signed, `u` unsigned.
        component_bytes: bytes of one component (I or Q).
        endian: `<` little, `>` big; `|` where a component is one byte.
    """

    name: str
    kind: Literal["f", "i", "u"]
    component_bytes: int
    endian: Literal["<", ">", "|"]

    @property
    def sample_bytes(self) -> int:
        """Bytes of one complex sample of one channel."""
        return 2 * self.component_bytes

    @property
    def numpy_name(self) -> str:
        """The numpy dtype of one component, for example `<i2`."""
        return f"{self.endian}{self.kind}{self.component_bytes}"

    @classmethod
    def parse(cls, name: str) -> "Datatype":
        """Read a SigMF datatype.

        Args:
            name: such as `cf32_le`; one-byte types carry no endianness.

        Raises:
            DatatypeError: real-valued, unknown, or without the endianness it needs.
        """
        match = _DATATYPE.match(name)
        if match is None:
            raise DatatypeError(
                f"unknown datatype {name[:32]!r}; known are cf32_le, cf64_le, ci32_le, ci16_le, "
                "cu32_le, cu16_le (or _be), ci8 and cu8"
            )
        if match["kind"] == "r":
            raise DatatypeError(f"datatype {name!r} is real-valued; localisation needs complex samples (c…)")
        size = int(match["number"][1:]) // 8
        if (size == 1) != (match["endian"] is None):
            raise DatatypeError(
                f"datatype {name!r}: "
                + ("one-byte types carry no _le or _be" if size == 1 else f"say the byte order: {name}_le or {name}_be")
            )
        kind = match["number"][0]
        assert kind in ("f", "i", "u")
        return cls(name, kind, size, "|" if size == 1 else ("<" if match["endian"] == "le" else ">"))
