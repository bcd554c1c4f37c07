"""What is fuzzed: a reader of outside bytes, how to make inputs for it, and what it may do with them."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

TAKEN = "taken"
REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Target:
    """One reader.

    Attributes:
        name: of the target and of its corpus directory.
        valid: makes an input that is taken.
        make: makes any input, from sound to hostile; the same numbers drawn give the same input.
        run: reads an input and checks what comes out. Returns `TAKEN`, or `REFUSED` where one of the errors that are
            promised was raised; whatever it raises itself is a crash.
    """

    name: str
    valid: Callable[[Random], bytes]
    make: Callable[[Random], bytes]
    run: Callable[[bytes], str]
