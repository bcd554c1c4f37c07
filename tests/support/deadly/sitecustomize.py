"""Lets the child in which a version proves itself die at a marked model, as native code dies: by a signal.

Python imports this module at its start where its folder is on PYTHONPATH.
"""

import os
import signal
import sys
from pathlib import Path

MARK = b"deadly"

if "worker.serving.proof" in sys.orig_argv:
    import onnxruntime

    _load = onnxruntime.InferenceSession

    def _load_or_die(path: str, *args: object, **options: object) -> object:
        if MARK in Path(path).read_bytes():
            os.kill(os.getpid(), signal.SIGSEGV)
        return _load(path, *args, **options)

    onnxruntime.InferenceSession = _load_or_die
