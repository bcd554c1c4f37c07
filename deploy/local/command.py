"""A command that starts servers: however it ends, what it started is stopped, and the reason is said."""

import signal
import sys
from collections.abc import Callable

from deploy.local.errors import LocalStackError

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


def run_command(command: Callable[[], int]) -> int:
    """Run it so that SIGTERM and SIGINT raise KeyboardInterrupt in it, and every `with` is left.

    SIGINT too, because a shell starts what it puts into the background with that signal ignored.

    Returns:
        Its own exit code; else, with a line on standard error, 1 where a `LocalStackError` ended it and 130 where a
        signal did that it does not handle itself.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        return command()
    except KeyboardInterrupt:
        print("interrupted: everything that was started is stopped", file=sys.stderr)
        return EXIT_INTERRUPTED
    except LocalStackError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED
