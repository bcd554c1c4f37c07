"""Breaks what the fault suite wants broken: Python imports this at its start where its folder is on PYTHONPATH."""

import os

from bench.chaos.injection import install

install(os.environ)
