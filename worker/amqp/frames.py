"""Short strings of AMQP frames that are no UTF-8, made harmless.

The broker passes on whatever bytes a publisher puts into a property such as `message_id`. The library would close the
connection over them, at each redelivery, and all that is in flight would suffer. Decoded with replacements, the
message comes in, and its envelope is refused like any other that is not valid.
"""

from typing import Final

import pamqp.decode

_SHORT_STRING: Final = "shortstr"


def tolerate_bad_text() -> None:
    """Decode short strings leniently, in this process, from now on."""
    pamqp.decode.METHODS[_SHORT_STRING] = _short_string


def _short_string(value: bytes) -> tuple[int, str]:
    """Consumed bytes and text; AMQP 0-9-1, section 4.2.5.3: a length octet, then that many octets.

    Bytes that are no UTF-8 become `?`, one octet each as before, so that the text still fits a short string.
    """
    if not value:
        raise ValueError("a short string without its length")
    length = value[0]
    return length + 1, value[1 : length + 1].decode(errors="replace").replace("\ufffd", "?")
