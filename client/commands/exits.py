"""How a command ends: what the shell learns, and how a wrong input is told."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Final

import typer
from rich.console import Console

from client.errors import BadReply, CaptureError, HeimdallError, LocalizationError
from client.report import describe_error


class ExitCode(IntEnum):
    """What the shell learns; the worst of all files."""

    LOCATED = 0
    ERROR_ANSWER = 1
    USAGE = 2
    NO_ANSWER = 3


INTERRUPTED: Final = 130
"""Ctrl-C, as shells have it."""


def exit_code_of(error: HeimdallError) -> ExitCode:
    """The code of an error."""
    if isinstance(error, CaptureError):
        return ExitCode.USAGE
    return ExitCode.ERROR_ANSWER if isinstance(error, LocalizationError | BadReply) else ExitCode.NO_ANSWER


@contextmanager
def told(messages: Console) -> Iterator[None]:
    """End the command with an error's text on standard error and its code."""
    try:
        yield
    except HeimdallError as error:
        if isinstance(error, CaptureError):
            messages.print(f"heimdall: {error}", soft_wrap=True)
        else:
            messages.print(describe_error("", error), soft_wrap=True)
        raise typer.Exit(exit_code_of(error)) from None
