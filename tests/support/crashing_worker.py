"""A worker whose process dies at once when a loud sample reaches the model: for tests of what a crash leaves behind.

The model's run is where native code works, and where real processes die.
"""

import os
import signal
import sys

from worker.__main__ import main
from worker.serving.inputs import Tensors
from worker.serving.session import OnnxSession

DEADLY_ABOVE_DB = 20.0

_run = OnnxSession.run


def _run_or_die(self: OnnxSession, outputs: tuple[str, ...], feed: Tensors) -> object:
    if feed["mel"].mean(axis=(1, 2, 3)).max() > DEADLY_ABOVE_DB:
        os.kill(os.getpid(), signal.SIGKILL)
    return _run(self, outputs, feed)


if __name__ == "__main__":
    OnnxSession.run = _run_or_die  # type: ignore[method-assign]
    sys.exit(main())
