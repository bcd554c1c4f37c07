"""Signals to a command that starts servers: however it is told to end, what it started is stopped."""

import signal


def unwind_on_signals() -> None:
    """Let SIGTERM and SIGINT raise KeyboardInterrupt in the main thread, so that every `with` is left.

    SIGINT too, because a shell starts what it puts into the background with that signal ignored.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
